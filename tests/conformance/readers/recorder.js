// Answers every request with what Node's parser (llhttp) made of it: JSON in base64 in the field X-Seen, no body.
// Listens twice: where it is asked itself, and behind nginx and Envoy, which hand on what they understood.
const http = require("http");

const [asked, behind] = process.argv.slice(2).map(Number);
const latin = (list) => list.map((text) => Buffer.from(text, "latin1").toString("base64"));

function record(request, response) {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const seen = {
      method: request.method,
      target: Buffer.from(request.url, "latin1").toString("base64"),
      fields: latin(request.rawHeaders),
      trailers: latin(request.rawTrailers),
      body: Buffer.concat(parts).toString("base64"),
    };
    response.sendDate = false;
    response.writeHead(204, { "X-Seen": Buffer.from(JSON.stringify(seen)).toString("base64") });
    response.end();
  });
}

for (const [port, requireHostHeader] of [[asked, true], [behind, false]]) {
  const server = http.createServer({ requireHostHeader, keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 });
  for (const event of ["request", "checkExpectation"]) server.on(event, record);
  server.on("checkContinue", (request, response) => {
    response.writeContinue(); // without it Node ends the connection after this request
    record(request, response);
  });
  server.listen(port, "127.0.0.1");
}
