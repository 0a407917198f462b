// Node as a client: node:http and fetch (undici).
//
// usage: node web.mjs (http|fetch) URL
import http from "node:http";

const [how, base] = process.argv.slice(2);

const asks = [
  ["GET", "/json"], ["GET", "/json?q=a%2Fb&c=d+e"], ["HEAD", "/json"], ["OPTIONS", "/json"], ["DELETE", "/echo"], ["GET", "/missing"],
  ["GET", "/chunked"], ["GET", "/trailers"], ["GET", "/gzip"], ["GET", "/empty"], ["GET", "/unchanged"], ["GET", "/hints"],
  ["POST", "/echo", "text"], ["PUT", "/echo", "{}"], ["PATCH", "/echo", "a"], ["POST", "/echo", ""], ["POST", "/echo", "x".repeat(2000)],
  ["GET", "/json", null, { "X-Own": "Mixed Case", Accept: "text/html, */*;q=0.1" }], ["GET", "/range", null, { Range: "bytes=0-3" }],
  ["GET", "/json", null, { Cookie: "a=1; b=2", "If-None-Match": '"v1"' }], ["GET", "/json", null, { Authorization: "Bearer abc" }],
];

function overHttp(agent, method, path, body, headers = {}, stream = false) {
  return new Promise((done, failed) => {
    const request = http.request(base + path, { agent, method, headers }, (answer) => answer.resume().on("end", done));
    request.on("error", failed);
    request.on("upgrade", (_, socket) => { socket.destroy(); done(); });
    request.on("continue", () => request.end(body));
    if (stream) request.write("one");
    if (!headers.Expect) request.end(body);
    else request.flushHeaders();
  });
}

if (how === "http") {
  for (const agent of [new http.Agent({ keepAlive: true, maxSockets: 1 }), false])
    for (const ask of asks.slice(0, agent ? undefined : 3)) await overHttp(agent, ...ask);
  await overHttp(false, "POST", "/echo", "two", {}, true);
  await overHttp(false, "POST", "/echo", "text", { Expect: "100-continue", "Content-Length": 4 });
  await overHttp(false, "POST", "/echo", "two", { Trailer: "X-Sum", "Transfer-Encoding": "chunked" }, true);
  const key = { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13" };
  await overHttp(false, "GET", "/ws", undefined, key);
} else {
  for (const [method, path, body, headers] of asks) {
    const answer = await fetch(base + path, { method, headers, body: body ?? undefined }).catch(() => null);
    await answer?.arrayBuffer();
  }
  const form = new FormData();
  form.set("a", "1");
  const stream = () => new Blob(["one", "two"]).stream();
  for (const body of [form, new URLSearchParams({ a: "ä & b" }), new Blob(["a"], { type: "text/plain" })])
    await (await fetch(base + "/echo", { method: "POST", body })).arrayBuffer();
  await (await fetch(base + "/echo", { method: "POST", body: stream(), duplex: "half" })).arrayBuffer();
  await (await fetch(base + "/redirect")).arrayBuffer();
}
