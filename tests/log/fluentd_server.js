// The server of @fluent-org/logger on a port, told by its arguments: PORT OPTIONS-AS-JSON OUT.
// Files of TLS are named in the options. Each record is a line of JSON in OUT before the chunk
// that brought it is acknowledged: the library itself answers first.
const fs = require("fs");
const { FluentServer } = require("@fluent-org/logger");

const [port, options, path] = process.argv.slice(2);
const { tls, security, unix } = JSON.parse(options);
const file = (name) => tls[name] && fs.readFileSync(tls[name]);
const server = new FluentServer({
    listenOptions: unix ? { path: unix } : { port: Number(port), host: "127.0.0.1" },
    tlsOptions: tls && { cert: file("cert"), key: file("key"), ca: file("ca"), requestCert: !!tls.ca },
    security,
});
const out = fs.openSync(path, "a");
// The library takes a string for binary where the byte behind an empty one happens to be that with
// which a packed event begins.
const text = (value) => (value instanceof Uint8Array ? Buffer.from(value).toString() : value);
server.on("entry", (tag, time, record) => {
    const event = typeof time === "number" ? time : { seconds: time.epoch, nanos: time.nano };
    const fields = Object.entries(record).map(([name, value]) => [name, text(value)]);
    const line = JSON.stringify({ tag, time: event, record: Object.fromEntries(fields) });
    fs.writeSync(out, line + "\n");
});
server.server.on(tls ? "secureConnection" : "connection", (socket) => {
    const write = socket.write.bind(socket);
    socket.write = (bytes) => setImmediate(() => socket.destroyed || write(bytes));
});
server.listen().then(() => console.log("listening"));
