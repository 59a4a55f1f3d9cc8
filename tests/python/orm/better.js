// An application with better-sqlite3: `better.js FILE COMMAND`. Each answer is one line of JSON.
'use strict';
const Database = require('better-sqlite3');
const [file, command] = process.argv.slice(2);
const db = new Database(file, { timeout: 5000 });
// What docs/orm.md tells to set, on primary and replica alike.
const mode = db.pragma('journal_mode = WAL', { simple: true });
const count = () => db.prepare('SELECT count(*) AS n FROM shop_item').get().n;
const write = db.transaction(() => {
  db.prepare('INSERT INTO shop_item(name) VALUES (?)').run('new');
  return count();
});
const read = db.transaction(count);
let told;
try {
  told = { answer: { write: write.immediate, read: read.immediate }[command](), mode };
} catch (error) {
  told = { error: error.message, code: error.code, mode };
}
console.log(JSON.stringify(told));
