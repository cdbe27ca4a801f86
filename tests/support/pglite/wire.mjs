// The PostgreSQL protocol as far as a relay needs it: cutting a stream of bytes into messages,
// renaming prepared statements, and the few messages that the relay answers itself. Pure, no sockets.

export const STARTUP = '';
const SSL_REQUEST = 80877103;
const GSS_REQUEST = 80877104;
const FORGET = /^\s*deallocate\s+(?:prepare\s+)?"?(\w+)"?\s*;?\s*$/i;
const COPY_FROM_STDIN = /^\s*copy\s+[^;]*?\sfrom\s+stdin\b/is;

/** Collects bytes and hands out whole messages as {type, bytes}; the first one has no type. */
export class Messages {
  #kept = Buffer.alloc(0);
  #started = false;

  *take(chunk) {
    this.#kept = Buffer.concat([this.#kept, chunk]);
    for (;;) {
      const head = this.#started ? 1 : 0;
      if (this.#kept.length < head + 4) return;
      const length = head + this.#kept.readInt32BE(head);
      if (this.#kept.length < length) return;
      const bytes = this.#kept.subarray(0, length);
      this.#kept = this.#kept.subarray(length);
      const type = this.#started ? String.fromCharCode(bytes[0]) : STARTUP;
      if (type === STARTUP && !asksForEncryption(bytes)) this.#started = true;
      yield { type, bytes };
    }
  }
}

export function asksForEncryption(bytes) {
  return [SSL_REQUEST, GSS_REQUEST].includes(bytes.readInt32BE(4));
}

/** The settings of a startup message that are not about whom to connect to. */
export function settingsOf(bytes) {
  const words = bytes.subarray(8).toString().split('\0');
  const pairs = [];
  for (let at = 0; at + 1 < words.length && words[at]; at += 2) pairs.push([words[at], words[at + 1]]);
  const given = pairs.filter(([name]) => !['user', 'database', 'options'].includes(name));
  const options = pairs.find(([name]) => name === 'options')?.[1] ?? '';
  for (const [, name, value] of options.matchAll(/-c\s*([\w.]+)=((?:\\.|\S)*)/g)) {
    given.push([name, value.replace(/\\(.)/g, '$1')]);
  }
  return given;
}

/** One session serves all clients, so each client's prepared statements get its own prefix. */
export function renamed({ type, bytes }, prefix) {
  if (type === 'P') return withText(bytes, 5, prefix);
  if (type === 'B') return withText(bytes, bytes.indexOf(0, 5) + 1, prefix);
  if ((type === 'D' || type === 'C') && bytes[5] === 0x53) return withText(bytes, 6, prefix);
  return bytes;
}

function withText(bytes, at, prefix) {
  if (bytes[at] === 0) return bytes; // the unnamed statement stays unnamed
  const longer = Buffer.concat([bytes.subarray(0, at), Buffer.from(prefix), bytes.subarray(at)]);
  longer.writeInt32BE(longer.length - 1, 1);
  return longer;
}

/** A client may only forget statements of its own: `all` is the text that forgets each of them. */
export function forgetting(message, prefix, all) {
  const [head, text] = textOf(message);
  const named = text?.match(FORGET);
  if (!named) return message.bytes;
  const own = /^all$/i.test(named[1]) ? all : `DEALLOCATE "${prefix}${named[1]}"`;
  const tail = message.type === 'P' ? Buffer.alloc(3) : Buffer.alloc(1); // no types of parameters
  const body = Buffer.concat([head, Buffer.from(own), tail]);
  body.writeInt32BE(body.length - 1, 1);
  return body;
}

/** What stands before the SQL of a Query or Parse message, and the SQL. */
function textOf({ type, bytes }) {
  if (type !== 'Q' && type !== 'P') return [bytes, null];
  const from = type === 'Q' ? 5 : bytes.indexOf(0, 5) + 1;
  const head = Buffer.from(bytes.subarray(0, from));
  return [head, bytes.subarray(from, bytes.indexOf(0, from)).toString()];
}

/** The statement of a simple query that will ask for data, else null. */
export function copyStatement({ type, bytes }) {
  if (type !== 'Q') return null;
  const text = bytes.subarray(5, -1).toString();
  return COPY_FROM_STDIN.test(text) ? text : null;
}

/** "Send the data": what the server would say first. */
export function copyInResponse(statement) {
  const binary = /\bbinary\b/i.test(statement) ? 1 : 0;
  const columns = statement.match(/\(([^)]*)\)\s*from\s+stdin/is)?.[1].split(',').length ?? 0;
  const body = Buffer.alloc(3 + 2 * columns);
  body.writeInt8(binary, 0);
  body.writeInt16BE(columns, 1);
  for (let at = 0; at < columns; at += 1) body.writeInt16BE(binary, 3 + 2 * at);
  return message('G', body);
}

/** A server's answer without the messages of one type. */
export function without(type, bytes) {
  const kept = [];
  for (let at = 0; at < bytes.length; ) {
    const next = at + 1 + bytes.readInt32BE(at + 1);
    if (String.fromCharCode(bytes[at]) !== type) kept.push(bytes.subarray(at, next));
    at = next;
  }
  return Buffer.concat(kept);
}

/** The transaction status that an answer ends with: I idle, T in one, E in a failed one. */
export function statusOf(bytes) {
  const ready = bytes.length >= 6 && bytes[bytes.length - 6] === 0x5a;
  return ready ? String.fromCharCode(bytes[bytes.length - 1]) : null;
}

export function query(text) {
  return message('Q', Buffer.from(`${text}\0`));
}

/** "You are in": no password is asked for on the loopback address of a test. */
export function welcome(parameters) {
  const told = Object.entries(parameters).map(([name, value]) =>
    message('S', Buffer.from(`${name}\0${value}\0`)),
  );
  const authenticated = message('R', Buffer.alloc(4));
  const key = message('K', Buffer.alloc(8));
  return Buffer.concat([authenticated, ...told, key, message('Z', Buffer.from('I'))]);
}

function message(type, body) {
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}
