// The Node clients of the interop matrix: node:http for HTTP/1.1, node:http2 with prior knowledge.
//
// usage: node client.mjs (h1|h2c) PORT ASK, with ASK as JSON of record.Ask. Prints JSON of record.Record. After the
// request a second one, GET /small, shows whether the connection lived on.
import { createHash } from "node:crypto";
import { createReadStream, statSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";

const [version, port, json] = process.argv.slice(2);
const ask = JSON.parse(json);
const FOLLOW_UP = { method: "GET", path: "/small", fields: [], body: null, trailers: [] };

function pairs(raw) {
  const fields = [];
  for (let i = 0; i < raw.length; i += 2) if (!raw[i].startsWith(":")) fields.push([raw[i], raw[i + 1]]);
  return fields;
}

// Several fields of one name as Node wants them: a list.
function given(ask) {
  const headers = {};
  for (const [name, value] of ask.fields) headers[name] = name in headers ? [headers[name], value].flat() : value;
  if (ask.body && ask.counted) headers["content-length"] = statSync(ask.body).size;
  if (ask.expect) headers.expect = "100-continue";
  if (ask.trailers.length && version === "h1") headers.trailer = ask.trailers.map(([name]) => name).join(", ");
  return headers;
}

function upload(ask, request) {
  if (!ask.body) return request.end();
  const file = createReadStream(ask.body);
  if (version === "h1" && ask.trailers.length) request.addTrailers(ask.trailers);
  file.pipe(request);
}

function start(ask, request) {
  if (ask.expect) request.once("continue", () => upload(ask, request));
  else upload(ask, request);
}

function collect(ask, stream, record, done) {
  const hash = createHash("sha256");
  const pieces = [];
  record.body_bytes = 0;
  stream.on("data", (data) => {
    hash.update(data);
    record.body_bytes += data.length;
    if (record.body_bytes < 65536) pieces.push(data);
  });
  stream.on("end", () => {
    record.body_sha256 = hash.digest("hex");
    if (ask.path.startsWith("/seen")) record.seen = JSON.parse(Buffer.concat(pieces).toString());
    done(record);
  });
}

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function overHttp1(ask) {
  return new Promise((resolve, reject) => {
    const record = { interims: [] };
    const options = { host: "127.0.0.1", port, method: ask.method, path: ask.path, headers: given(ask), agent };
    const request = http.request(options);
    request.on("error", reject);
    request.on("information", (info) => record.interims.push([info.statusCode, pairs(info.rawHeaders)]));
    request.on("response", (response) => {
      const connection = response.socket.localPort;
      collect(ask, response, record, () => {
        record.version = response.httpVersion;
        record.status = response.statusCode;
        record.fields = pairs(response.rawHeaders);
        record.trailers = pairs(response.rawTrailers);
        setImmediate(() => resolve([record, connection])); // after the agent has taken the socket back
      });
    });
    start(ask, request);
  });
}

const session = version === "h2c" ? http2.connect(`http://127.0.0.1:${port}`) : null;

function overHttp2(ask) {
  return new Promise((resolve, reject) => {
    const record = { version: "2", interims: [], trailers: [] };
    const headers = { ":method": ask.method, ":path": ask.path, ...given(ask) };
    const stream = session.request(headers, { endStream: !ask.body, waitForTrailers: ask.trailers.length > 0 });
    stream.on("wantTrailers", () => stream.sendTrailers(Object.fromEntries(ask.trailers)));
    stream.on("error", reject);
    stream.on("headers", (headers, flags, raw) => record.interims.push([headers[":status"], pairs(raw)]));
    stream.on("response", (headers, flags, raw) => {
      record.status = headers[":status"];
      record.fields = pairs(raw);
    });
    stream.on("trailers", (headers, flags, raw) => (record.trailers = pairs(raw)));
    collect(ask, stream, record, () => {});
    stream.on("close", () => resolve([record, session.socket.localPort]));
    if (ask.body) start(ask, stream);
  });
}

const run = version === "h1" ? overHttp1 : overHttp2;
const [record, first] = await run(ask);
if (session && (session.closed || session.destroyed)) {
  record.reused = false;
} else {
  const [followed, second] = await run(FOLLOW_UP);
  if (followed.status !== 200) throw new Error(`the request after it got ${followed.status}`);
  record.reused = first === second;
}
agent.destroy();
session?.close();
process.stdout.write(JSON.stringify(record));
