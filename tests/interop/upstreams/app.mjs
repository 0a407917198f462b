// The interop service in Node: the paths of upstreams/__init__.py over HTTP/1.1 and over HTTP/2 without TLS.
//
// usage: node app.mjs HTTP1_PORT HTTP2_PORT. No npm package; both servers have one handler, written against what
// node:http and node:http2 have in common.
import { createHash } from "node:crypto";
import http from "node:http";
import http2 from "node:http2";

const ETAG = '"v1"';
const SMALL = Buffer.from("hello from the interop service\n");
const FILLER = Buffer.alloc(65536, "f");
const BIG = Buffer.alloc(10 * 1024 * 1024, "0123456789abcdef-");

function plain(answer) {
  answer.setHeader("Content-Type", "text/plain");
  answer.setHeader("ETag", ETAG);
  answer.setHeader("Accept-Ranges", "bytes");
  answer.setHeader("X-Mixed-Case", "Yes, with a comma");
  answer.setHeader("X-Empty", "");
  answer.setHeader("Set-Cookie", ["a=1; Path=/", "b=2; Path=/"]);
}

function small(request, answer) {
  plain(answer);
  if ((request.headers["if-none-match"] ?? "").includes(ETAG)) {
    answer.statusCode = 304;
    return answer.end();
  }
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
  let body = SMALL;
  if (range) {
    const [first, last] = [Number(range[1]), Number(range[2])];
    body = SMALL.subarray(first, last + 1);
    answer.statusCode = 206;
    answer.setHeader("Content-Range", `bytes ${first}-${last}/${SMALL.length}`);
  }
  answer.setHeader("Content-Length", String(body.length));
  answer.end(request.method === "HEAD" ? undefined : body);
}

function big(request, answer) {
  plain(answer);
  answer.setHeader("Content-Length", String(BIG.length));
  answer.end(BIG);
}

function seen(request, answer) {
  const raw = request.rawHeaders;
  const fields = [];
  for (let i = 0; i < raw.length; i += 2) fields.push([raw[i], raw[i + 1]]);
  json(answer, { method: request.method, target: request.url, fields });
}

function json(answer, value) {
  const body = Buffer.from(JSON.stringify(value));
  answer.setHeader("Content-Type", "application/json");
  answer.setHeader("Content-Length", String(body.length));
  answer.end(body);
}

function digested(request, then) {
  const hash = createHash("sha256");
  let length = 0;
  request.on("data", (data) => {
    hash.update(data);
    length += data.length;
  });
  request.on("end", () => then({ sha256: hash.digest("hex"), length }));
}

function chunked(request, answer) {
  digested(request, (got) => {
    answer.setHeader("Content-Type", "text/plain");
    answer.write("[");
    answer.write(FILLER);
    answer.end(`${got.sha256} ${got.length}]`);
  });
}

function trailers(request, answer) {
  digested(request, () => {
    answer.setHeader("Content-Type", "text/plain");
    answer.setHeader("Trailer", "X-Checksum, X-Told");
    answer.write("what comes after the body\n");
    answer.addTrailers({ "X-Checksum": "c0ffee", "X-Told": request.trailers["x-note"] ?? "nothing" });
    answer.end();
  });
}

function nothing(request, answer) {
  answer.statusCode = 204;
  answer.setHeader("X-Mixed-Case", "Yes, with a comma");
  answer.end();
}

function hints(request, answer) {
  answer.writeEarlyHints({ link: "</style.css>; rel=preload; as=style" });
  small(request, answer);
}

const PATHS = {
  "/small": small,
  "/big": big,
  "/seen": seen,
  "/digest": (request, answer) => digested(request, (got) => json(answer, got)),
  "/chunked": chunked,
  "/trailers": trailers,
  "/nothing": nothing,
  "/hints": hints,
};

function handle(request, answer) {
  const serve = PATHS[request.url.split("?")[0]];
  if (serve) return serve(request, answer);
  answer.statusCode = 404;
  answer.end();
}

const [port1, port2] = process.argv.slice(2).map(Number);
http.createServer({ keepAliveTimeout: 60_000 }, handle).listen(port1, "127.0.0.1");
http2.createServer(handle).listen(port2, "127.0.0.1");
