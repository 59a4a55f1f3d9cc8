// Real processes and a real browser, for status.test.mjs.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const walcast = resolve(process.env.WALCAST_BIN || join(root, "target/debug/walcast"));
const chromium = process.env.CHROMIUM || "/usr/bin/chromium";
const PATIENCE = 60000;

/// What is missing, or undefined.
export async function missing() {
  if (!existsSync(walcast)) return `${walcast} is missing; build it, or set WALCAST_BIN`;
  if (!existsSync(chromium)) return `${chromium} is missing; install Debian's chromium`;
  try {
    await import("playwright-core");
    return undefined;
  } catch {
    return "playwright-core is missing; run: npm ci --prefix tests/browser";
  }
}

/// Asks until the answer is something true.
export async function poll(what, ask) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`gave up after ${PATIENCE / 1000} s waiting for ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

export class Scene {
  constructor() {
    this.dir = mkdtempSync(join(tmpdir(), "walcast-browser-"));
    this.children = [];
    this.log = [];
  }

  path(name) {
    return join(this.dir, name);
  }

  #spawn(name, command, args, stdin) {
    const out = openSync(this.path(name + ".log"), "a");
    const child = spawn(command, args, { cwd: this.dir, stdio: [stdin, out, out] });
    child.ended = new Promise((done) => child.on("exit", done));
    this.children.push(child);
    return child;
  }

  text(name) {
    return readFileSync(this.path(name + ".log"), "utf8");
  }

  /// Starts `walcast`; gives the process with its two addresses.
  async walcast(name, ...args) {
    const before = existsSync(this.path(name + ".log")) ? this.text(name).length : 0;
    const child = this.#spawn(name, walcast, args, "ignore");
    const said = (pattern) => poll(`${name} to say ${pattern}`, () => {
      const found = pattern.exec(this.text(name).slice(before));
      if (!found && child.exitCode !== null) throw new Error(`${name} ended:\n${this.text(name)}`);
      return found?.[1];
    });
    child.grpc = await said(/listening on (\S+)\n/);
    child.http = await said(/status page on (\S+)\n/);
    return child;
  }

  /// An application that commits until it is told to end; `pace` is the pause in seconds between commits.
  application(database, pace) {
    const code = `
import sqlite3, sys, threading, os
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, x BLOB)")
end = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), end.set()), daemon=True).start()
while not end.wait(float(sys.argv[2])):
    db.execute("INSERT INTO t(x) VALUES (?)", (os.urandom(2000),))
    db.execute("DELETE FROM t WHERE id < (SELECT max(id) FROM t) - 2000")
`;
    return this.#spawn("application", "python3", ["-c", code, database, String(pace)], "pipe");
  }

  async stop(child) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGCONT");
      child.kill("SIGTERM");
      const kill = setTimeout(() => child.kill("SIGKILL"), 15000);
      await child.ended;
      clearTimeout(kill);
    }
  }

  async end() {
    for (const child of this.children.reverse()) {
      child.stdin?.end();
      await this.stop(child);
    }
    await this.browser?.close();
    rmSync(this.dir, { recursive: true, force: true });
  }

  /// A page in a browser of its own kind; what it asks for, and what it complains of, is kept in `page.trouble`.
  async page(url, options = {}) {
    if (!this.browser) {
      const { chromium: kind } = await import("playwright-core");
      const quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
      this.browser = await kind.launch({ executablePath: chromium, args: quiet });
    }
    const context = await this.browser.newContext({ viewport: { width: 1180, height: 900 }, reducedMotion: "reduce", ...options });
    const page = await context.newPage();
    page.trouble = [];
    const origin = new URL(url).origin;
    page.on("request", (request) => {
      if (!request.url().startsWith(origin) && !request.url().startsWith("data:")) page.trouble.push("asks for " + request.url());
    });
    // A server that is away is no fault of the page.
    page.on("console", (line) => {
      if (line.type() === "error" && !/Failed to load resource|ERR_/.test(line.text())) page.trouble.push(line.text());
    });
    page.on("pageerror", (error) => page.trouble.push(String(error)));
    await page.goto(url, { waitUntil: "domcontentloaded" });
    return page;
  }
}

/// Where screenshots go: to docs/images if that is wanted, else beside the logs of CI.
export function picture(name) {
  const dir = process.env.WALCAST_SCREENSHOTS ? join(root, "docs/images") : join(root, "target/browser");
  mkdirSync(dir, { recursive: true });
  return join(dir, name);
}
