// The Node service that clients are recorded against: one path for each thing that an answer can be.
//
// usage: node service.mjs PORT
import { createHash } from "node:crypto";
import http from "node:http";
import { gzipSync } from "node:zlib";
import { readFileSync } from "node:fs";

const CORS = { "Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*", "Access-Control-Allow-Methods": "*" };
const PAGE = readFileSync(new URL("clients/page.html", import.meta.url));

const answers = {
  "/page": (_, response) => response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end(PAGE),
  "/json": (_, response) => response.writeHead(200, { "Content-Type": "application/json", ETag: '"v1"', ...CORS }).end("{}"),
  "/script.js": (_, response) => response.writeHead(200, { "Content-Type": "text/javascript" }).end("window.ran = 1"),
  "/style.css": (_, response) => response.writeHead(200, { "Content-Type": "text/css", "Cache-Control": "max-age=60" }).end("p {}"),
  "/image.svg": (_, response) =>
    response.writeHead(200, { "Content-Type": "image/svg+xml" }).end('<svg xmlns="http://www.w3.org/2000/svg"/>'),
  "/redirect": (_, response) => response.writeHead(302, { Location: "/json" }).end(),
  "/moved": (_, response) => response.writeHead(307, { Location: "/echo" }).end(),
  "/empty": (_, response) => response.writeHead(204, CORS).end(),
  "/unchanged": (_, response) => response.writeHead(304, { ETag: '"v1"' }).end(),
  "/missing": (_, response) => response.writeHead(404, { "Content-Type": "text/plain" }).end("not here"),
  "/broken": (_, response) => response.writeHead(500).end("broken"),
  "/chunked": (_, response) => { response.writeHead(200, { "Content-Type": "text/plain" }); response.write("one"); response.end("two"); },
  "/trailers": (_, response) => {
    response.writeHead(200, { Trailer: "X-Sum" });
    response.write("some text");
    response.addTrailers({ "X-Sum": "c0ffee" });
    response.end();
  },
  "/gzip": (_, response) => response.writeHead(200, { "Content-Encoding": "gzip", Vary: "Accept-Encoding" }).end(gzipSync("text")),
  "/cookies": (_, response) => response.writeHead(200, { "Set-Cookie": ["a=1; Path=/", "b=2; HttpOnly; SameSite=Lax"] }).end("ok"),
  "/hints": (_, response) => { response.writeEarlyHints({ link: "</style.css>; rel=preload; as=style" }); response.end("ok"); },
  "/range": (_, response) =>
    response.writeHead(206, { "Content-Range": "bytes 0-3/10", "Content-Length": 4 }).end("0123"),
  "/login": (_, response) => response.writeHead(401, { "WWW-Authenticate": 'Basic realm="a"' }).end(),
  "/events": (_, response) => response.writeHead(200, { "Content-Type": "text/event-stream" }).end("data: one\n\n"),
  "/close": (_, response) => response.writeHead(200, { Connection: "close" }).end("bye"),
};

const server = http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const { pathname } = new URL(request.url, "http://x");
    if (request.method === "OPTIONS") return response.writeHead(204, CORS).end();
    if (pathname in answers) return answers[pathname](request, response);
    response.writeHead(200, { "Content-Type": "text/plain", ...CORS }).end(Buffer.concat(parts));
  });
});
server.on("upgrade", (request, socket) => {
  if (request.headers.upgrade !== "websocket") // Java offers h2c; who does not know that answers as if nothing was said
    return socket.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
  const accept = createHash("sha1").update(request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
  const head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"];
  socket.end([...head, `Sec-WebSocket-Accept: ${accept.digest("base64")}`, "", ""].join("\r\n"));
});
server.listen(Number(process.argv[2]), "127.0.0.1");
