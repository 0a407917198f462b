// The echo server with Node's ws. usage: node server.mjs FOLDER_OF_WS PORT SUBPROTOCOL
import { createRequire } from "node:module";

const [folder, port, subprotocol] = process.argv.slice(2);
const { WebSocketServer } = createRequire(folder + "/")("ws");
const endings = new Map();

function ending(token) {
  if (!endings.has(token)) {
    const kept = {};
    kept.promise = new Promise((resolve) => (kept.resolve = resolve));
    endings.set(token, kept);
  }
  return endings.get(token);
}

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(port),
  maxPayload: 0,
  handleProtocols: (asked) => (asked.has(subprotocol) ? subprotocol : false),
});
server.on("connection", (socket) => {
  let token = "";
  socket.on("error", (error) => console.error(error));
  socket.on("pong", () => socket.send("!ponged"));
  socket.on("message", async (data, binary) => {
    if (binary || data[0] !== 0x21) return socket.send(data, { binary });
    const [word, ...rest] = data.toString().split(" ");
    if (word === "!ping") socket.ping("from the server");
    else if (word === "!close") socket.close(Number(rest[0]), rest.slice(1).join(" "));
    else if (word === "!name") {
      token = rest[0];
      socket.send("!named");
    } else if (word === "!ended") socket.send("!" + (await ending(rest[0]).promise));
  });
  socket.on("close", (code, why) => {
    if (token) ending(token).resolve(`${code} ${why}`);
  });
});
