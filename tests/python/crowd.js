// crowd.py and, with `content=1`, reader.py through better-sqlite3: same options, same histories, same logs.
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const Database = require('better-sqlite3');

const spec = Object.fromEntries(process.argv.slice(2).map((arg) => {
  const at = arg.indexOf('=');
  return [arg.slice(0, at), arg.slice(at + 1)];
}));

// splitmix64: a seed names a run.
const MASK = (1n << 64n) - 1n;
let seed = BigInt(spec.seed || 1);
function below(n) {
  seed = (seed + 0x9e3779b97f4a7c15n) & MASK;
  let z = seed;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return Number((z ^ (z >> 31n)) % BigInt(n));
}

const plan = {};
let section;
for (const line of fs.readFileSync(path.join(__dirname, '..', 'common', 'crowd.txt'), 'utf8').split('\n')) {
  if (line.startsWith('[')) section = plan[line.slice(1, -1)] = [];
  else if (line && !line.startsWith('#')) section.push(line);
}

function script(name, pageSize) {
  const pairs = plan[name].map((line) => [Number(line.split(' ', 1)[0]), line.slice(line.indexOf(' ') + 1)]);
  let at = below(pairs.reduce((sum, pair) => sum + pair[0], 0));
  const chosen = pairs.find((pair) => (at -= pair[0]) < 0)[1];
  const kept = { db: 'main', page: pageSize };
  return chosen.replace(/\{(.*?)\}/g, (_, word) => {
    const [key, n] = word.split(':');
    if (n) kept[key] = below(Number(n));
    return key in kept ? kept[key] : below(key === 'r' ? 2 ** 31 : Number(key));
  });
}

function pragmas(name) {
  return plan[name].map((line) => {
    const [setting, values] = line.split(' = ');
    const all = values.split(' | ');
    return `PRAGMA ${setting} = ${all[below(all.length)]}`;
  }).join(';');
}

function item(value) {
  if (value === null) return Buffer.from('n;');
  if (typeof value === 'bigint') return Buffer.from(`i${value};`);
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(9, 'r');
    bytes.writeDoubleBE(value, 1);
    return bytes;
  }
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from(`${typeof value === 'string' ? 't' : 'b'}${bytes.length};`), bytes]);
}

// Each statement of its own, prepared anew: the schema changes under it.
const rows = (db, sql) => db.prepare(sql).safeIntegers().raw();

function content(db) {
  const version = db.prepare('SELECT n FROM version').pluck().get();
  const names = db.prepare(`SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 AND name <> 'mark'
    ORDER BY name`).pluck().all();
  const total = crypto.createHash('sha256');
  for (const sql of ['PRAGMA user_version', 'PRAGMA application_id',
    'SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name',
    ...names.map((name) => `SELECT * FROM "${name}" NOT INDEXED`)]) {
    for (const row of rows(db, sql).iterate()) {
      row.forEach((value) => total.update(item(value)));
      total.update('|');
    }
    total.update('#');
  }
  const state = total.digest('hex').slice(0, 16);
  return { version, state, mark: Buffer.from(`walcast-state:${version.toString(16).padStart(16, '0')}:${state};`) };
}

const append = (file) => {
  const fd = fs.openSync(file, 'a');
  return (...words) => fs.writeSync(fd, `${words.join(' ').replace(/\n/g, ' ')}\n`);
};
const parent = process.ppid;
const toldToStop = () => fs.existsSync(spec.stop) || process.ppid !== parent;
const isBusy = (error) => /^SQLITE_(BUSY|LOCKED)/.test(error.code);

let db;
const open = (readonly, settings) => {
  if (db) db.close();
  db = undefined;
  db = new Database(spec.db, { fileMustExist: true, readonly, timeout: 60000 });
  db.exec(pragmas(settings));
};

function application() {
  const note = append(spec.history);
  const counts = {};
  open(false, 'connection');
  const pageSize = db.pragma('page_size', { simple: true });
  const part = () => {
    db.exec('SAVEPOINT part');
    try {
      db.exec(script('change', pageSize));
    } catch (error) {
      if (!/^SQLITE_(ERROR|CONSTRAINT)/.test(error.code) || !db.inTransaction) throw error;
      db.exec('ROLLBACK TO part');
    }
    db.exec('RELEASE part');
  };
  const commit = () => {
    db.exec(`BEGIN ${['IMMEDIATE', 'EXCLUSIVE', 'DEFERRED'][below(3)]}; SELECT n FROM version`);
    db.exec('UPDATE version SET n = n + 1');
    for (let parts = 1 + below(4); parts > 0; parts -= 1) part();
    // FTS5 writes what it has gathered at a savepoint, or else at the commit.
    db.exec('SAVEPOINT all_written; RELEASE all_written');
    const now = content(db);
    db.prepare('UPDATE mark SET text = ?').run(now.mark);
    note('intent', now.version, now.state);
    try {
      db.exec('COMMIT');
    } catch (error) {
      note('abort', now.version, now.state);
      throw error;
    }
    note('done', now.version, now.state);
  };
  while (!toldToStop()) {
    const choice = below(100);
    let name = choice < 78 ? 'commit' : choice < 96 ? 'idle' : 'reopen';
    try {
      if (name === 'commit') commit();
      else if (name === 'idle') db.exec(script('idle', pageSize));
      else open(false, 'connection');
    } catch (error) {
      if (!isBusy(error)) throw error;
      name = `busy.${name}`;
    }
    if (db.inTransaction) db.exec('ROLLBACK');
    counts[name] = (counts[name] || 0) + 1;
  }
  return counts;
}

function reader() {
  const log = append(spec.log);
  const counts = { reads: 0, errors: 0, violations: 0 };
  let opened = 0;
  while (!toldToStop()) {
    try {
      if (!db || spec.mode === 'reconnect') {
        opened += 1;
        open(spec.mode === 'readonly', 'reader');
      }
      db.exec('BEGIN');
      const seen = content(db);
      if (!db.prepare('SELECT text FROM mark').pluck().get().equals(seen.mark)) {
        log('v', opened, `at version ${seen.version} with the content ${seen.state}: the mark names another`);
        counts.violations += 1;
      }
      db.exec('COMMIT');
      log('r', opened, seen.version, seen.state);
      counts.reads += 1;
    } catch (error) {
      log('e', opened, error.code, error.message);
      counts.errors += 1;
      if (db && db.inTransaction) db.exec('ROLLBACK');
    }
    // A pace, not a wait.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(spec.pause_us || 1000) / 1000);
  }
  return counts;
}

const counts = spec.log ? reader() : application();
const sqlite = new Database(':memory:').prepare('SELECT sqlite_version()').pluck().get();
const lines = Object.entries({ role: spec.log ? 'reader' : 'crowd', sqlite, ...counts }).map((pair) => `${pair.join('=')}\n`);
fs.writeFileSync(`${spec.report}-partial`, lines.join(''));
fs.renameSync(`${spec.report}-partial`, spec.report);
