// The client with Node's ws. usage: node client.mjs FOLDER_OF_WS PORT SUBPROTOCOL STEPS; prints the transcript as JSON.
import { createHash } from "node:crypto";
import { createRequire } from "node:module";

const [folder, port, subprotocol, json] = process.argv.slice(2);
const WebSocket = createRequire(folder + "/")("ws");

const textOf = (size) => "aé€-".repeat(Math.floor(size / 7)) + "x".repeat(size % 7);
const bytesOf = (size) => Buffer.from(Uint8Array.from({ length: size }, (_, index) => index));
const pieceOf = (number) => String.fromCharCode(97 + (number % 26)).repeat(1000);

const socket = new WebSocket(`ws://127.0.0.1:${port}/echo?a=b`, [subprotocol], { maxPayload: 0 });
const arrived = []; // events in order, each until somebody takes it
let wake = () => {};
function tell(event) {
  arrived.push(event);
  wake();
}
async function next() {
  while (!arrived.length) await new Promise((resolve) => (wake = resolve));
  return arrived.shift();
}
socket.on("error", (error) => {
  console.error(error);
  process.exit(1);
});
socket.on("open", () => tell({ kind: "open" }));
socket.on("message", (data, binary) => tell({ kind: "message", data, binary }));
socket.on("pong", (data) => tell({ kind: "pong", data }));
socket.on("close", (code, why) => tell({ kind: "close", code, why: why.toString() }));

async function expect(kind) {
  const event = await next();
  if (event.kind !== kind) throw new Error(`${event.kind} instead of ${kind}: ${JSON.stringify(event)}`);
  return event;
}

async function step(kind, value) {
  const size = Number(value);
  if (kind === "ping") {
    socket.ping(value);
    return `pong ${(await expect("pong")).data}`;
  }
  if (kind === "close") {
    socket.close(size, "so long");
    return `closed ${(await expect("close")).code}`;
  }
  if (kind === "closed") {
    const { code, why } = await expect("close");
    return `closed ${code} ${why}`;
  }
  if (kind === "fragments") {
    for (let number = 0; number < size; number++) socket.send(pieceOf(number), { fin: number === size - 1 });
  } else if (kind === "binary") socket.send(bytesOf(size));
  else socket.send(kind === "say" || kind === "order" ? value : textOf(size));
  if (kind === "order") return "ordered";
  const { data, binary } = await expect("message");
  if (kind === "say") return `said ${data}`;
  return `${binary ? "binary" : "text"} ${data.length} ${createHash("sha256").update(data).digest("hex")}`;
}

await expect("open");
if (socket.protocol !== subprotocol) throw new Error(`subprotocol ${socket.protocol}`);
const transcript = [];
for (const [kind, value] of JSON.parse(json)) transcript.push(await step(kind, value));
socket.terminate();
process.stdout.write(JSON.stringify(transcript));
