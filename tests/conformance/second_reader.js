// Reads requests as Node's parser (llhttp) does: a JSON list of base64 in, a JSON list of what each was out.
// Each goes to a server of its own over a stream in memory, so that no request can lean on another.
const http = require("http");
const { Duplex } = require("stream");

function read(bytes) {
  return new Promise((done) => {
    const seen = [];
    const server = http.createServer();
    const take = (request, response) => {
      const parts = [];
      request.on("data", (part) => parts.push(part));
      request.on("end", () => {
        const body = Buffer.concat(parts).toString("base64");
        seen.push({ method: request.method, url: request.url, host: request.headers.host, body });
        response.end();
        setImmediate(() => setImmediate(() => done(seen))); // time for a second request to show
      });
    };
    for (const event of ["request", "checkContinue", "checkExpectation"]) server.on(event, take);
    server.on("clientError", (error) => done(error.code));
    const stream = new Duplex({ read() {}, write: (_chunk, _encoding, written) => written() });
    server.emit("connection", stream);
    stream.push(bytes);
  });
}

(async () => {
  const answers = [];
  for (const one of JSON.parse(require("fs").readFileSync(0))) answers.push(await read(Buffer.from(one, "base64")));
  process.stdout.write(JSON.stringify(answers), () => process.exit(0));
})();
