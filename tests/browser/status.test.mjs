// The status page as a person sees it, while a replica falls behind and comes back.
//
//   npm ci --prefix tests/browser && node --test tests/browser/
//
// WALCAST_SCREENSHOTS=1 writes the pictures of the README to docs/images.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { Scene, missing, picture, poll } from "./kit.mjs";

const scene = new Scene();
const lacks = await missing();
if (lacks && process.env.WALCAST_REQUIRE_ALL === "1") throw new Error(`SKIP is a failure here (WALCAST_REQUIRE_ALL=1): ${lacks}`);
if (lacks) console.error(`\n##### SKIPPED: ${lacks} #####\n`);
const options = { skip: lacks ?? false, timeout: 240000 };

let primary, replica;
const text = (page, selector) => page.locator(selector).innerText();
const headline = (page, wanted) => poll(`the headline ${wanted}`, async () => wanted.test(await text(page, "#headline")));
const row = (page, name = "app.db") => page.locator(`#list > li[data-database=${JSON.stringify(name)}]`);
const shows = (locator, wanted) => poll(`${wanted} to be seen`, async () => wanted.test(await locator.innerText()));

const NAMES = ["app.db", "billing.db", "sessions.db"];
function primaryArguments(listen) {
  return ["primary", ...NAMES.flatMap((name) => ["--db", scene.path(name)]), "--listen", listen, "--http-listen", "127.0.0.1:0", "--server-id", "frankfurt"];
}

before(async () => {
  if (lacks) return;
  mkdirSync(scene.path("copies"));
  scene.application(scene.path("app.db"), 0.03);
  scene.application(scene.path("billing.db"), 0.2);
  scene.application(scene.path("sessions.db"), 1);
  primary = await scene.walcast("primary", ...primaryArguments("127.0.0.1:0"));
});
after(() => scene.end());

test("a primary without replicas says how to make one", options, async () => {
  const page = await scene.page(primary.http);
  await headline(page, /^All is well$/);
  const advice = await text(page, "#topology");
  assert.match(advice, /No replicas yet/);
  assert.ok(advice.includes(`walcast replica --upstream http://${primary.grpc} --db 'app.db=/replica/app.db'`), advice);
  assert.match(await text(page, "#no-errors"), /None since/);
  await page.context().close();
});

test("a replica that is stopped is seen to fall behind, and to come back", options, async () => {
  replica = await scene.walcast("replica", "replica", "--upstream", `http://${primary.grpc}`, ...NAMES.flatMap((name) => ["--db", `${name}=${scene.path("copies/" + name)}`]),
    "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--name", "copenhagen");
  const page = await scene.page(primary.http);
  await shows(page.locator("#topology"), /copenhagen[^]*replica of 3 databases[^]*streaming/);
  await headline(page, /^All is well$/);
  await shows(row(page), /app\.db primary\s+streaming/);
  replica.kill("SIGSTOP");
  await headline(page, /^(1 database needs|[23] databases need) a look$/);
  await shows(page.locator("#news"), /\.db: .*copenhagen/);
  await shows(row(page), /replica falling behind[^]*\d+\.\d s[^]*replica copenhagen is \d+\.\d s behind/);
  await shows(page.locator("#t-behind"), /\d+\.\d\s*s/);
  assert.match(await page.title(), /▲/);
  const late = await page.locator("#c-behind").getAttribute("aria-label");
  assert.match(late, /now \d+\.\d s/);
  await page.screenshot({ path: picture("status-behind.png") });
  replica.kill("SIGCONT");
  await headline(page, /^All is well$/);
  await shows(row(page), /streaming\s+behind\s+(level|\d+ ms)/);
  assert.deepEqual(page.trouble, []);
  await page.context().close();
});

test("a replica's own page tells that its primary is gone, why, and since when", options, async () => {
  const page = await scene.page(replica.http);
  await headline(page, /^All is well$/);
  await shows(page.locator("#topology"), /upstream of 3 databases/);
  await scene.stop(primary);
  await headline(page, /^3 databases need a look$/);
  await shows(row(page), /disconnected/);
  await row(page).getByRole("button").click();
  await shows(row(page).locator(".reason"), /\w+/);
  await shows(row(page), /Last level\s+\d+ s ago/);
  await shows(page.locator("#errors"), /warning\s+app\.db disconnected/);
  primary = await scene.walcast("primary", ...primaryArguments(primary.grpc));
  await headline(page, /^All is well$/);
  await shows(row(page), /Last level\s+now/);
  assert.deepEqual(page.trouble, []);
  await page.context().close();
});

test("the page says when it has lost the server, even one that is only silent, and goes on by itself", options, async () => {
  const page = await scene.page(primary.http);
  await headline(page, /^All is well$/);
  primary.kill("SIGSTOP");
  await headline(page, /^Lost the server$/);
  await shows(page.locator("#subline"), /Last heard \d+ s ago/);
  assert.equal(await text(page, "#link"), "Lost");
  primary.kill("SIGCONT");
  await headline(page, /^All is well$/);
  assert.equal(await text(page, "#link"), "Live");
  await page.context().close();
});

test("everything can be reached and read with a keyboard alone", options, async () => {
  const page = await scene.page(primary.http);
  await headline(page, /^All is well$/);
  const focus = () => page.evaluate(() => ({ id: document.activeElement.id, kind: document.activeElement.className, outline: getComputedStyle(document.activeElement).outlineStyle }));
  const seen = [];
  for (let i = 0; i < 12; i++) {
    await page.keyboard.press("Tab");
    const at = await focus();
    seen.push(at.id || at.kind);
    assert.equal(at.outline, "solid", `the focus on ${JSON.stringify(at)} cannot be seen`);
    if (at.kind === "row") break;
  }
  assert.deepEqual(seen, ["skip", "filter", "only", "row"]);
  await page.keyboard.press("Enter");
  const button = row(page).getByRole("button");
  assert.equal(await button.getAttribute("aria-expanded"), "true");
  await shows(row(page).locator("table"), /copenhagen[^]*127\.0\.0\.1/);
  await poll("the focus to stay where it was over some seconds' news", async () => (await text(page, "#subline")).includes("running for"));
  assert.equal((await focus()).kind, "row");
  await page.keyboard.press("Space");
  assert.equal(await button.getAttribute("aria-expanded"), "false");
  await page.context().close();
});

for (const scheme of ["light", "dark"]) {
  test(`it is readable in ${scheme}, on a desk and on a phone`, options, async () => {
    const page = await scene.page(primary.http, { colorScheme: scheme });
    await headline(page, /^All is well$/);
    const paper = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.equal(Number(/\d+/.exec(paper)[0]) < 128, scheme === "dark", paper);
    await row(page).getByRole("button").click();
    await shows(row(page).locator("table"), /copenhagen/);
    // The README's pictures have a minute to show.
    const enough = process.env.WALCAST_SCREENSHOTS ? 45 : 5;
    await poll("some seconds of history", async () => (await page.locator("#c-bytes .line").getAttribute("d") || "").split("L").length > enough);
    await page.screenshot({ path: picture(`status-${scheme}.png`), fullPage: true });
    await page.addScriptTag({ content: "0" }).then(() => assert.fail("a script that is not the page's own ran"), () => {});
    const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
    await page.evaluate(axe);
    const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    assert.deepEqual(found.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(" | ")}`), []);
    await page.context().close();

    const phone = await scene.page(primary.http, { colorScheme: scheme, viewport: { width: 360, height: 740 }, deviceScaleFactor: 2 });
    await headline(phone, /^All is well$/);
    await poll("some history", async () => (await phone.locator("#c-bytes .line").getAttribute("d") || "").split("L").length > 3);
    await phone.screenshot({ path: picture(`status-phone-${scheme}.png`) });
    await row(phone).getByRole("button").click();
    const wide = await phone.evaluate(() => document.scrollingElement.scrollWidth);
    assert.ok(wide <= 360, `the page is ${wide} px wide`);
    await phone.context().close();
  });
}

test("a hundred databases can be filtered, and no name is taken as markup", options, async () => {
  const evil = "<img src=x onerror=window.hit=1>";
  const names = Array.from({ length: 99 }, (_, i) => `tenant-${String(i).padStart(3, "0")}`);
  const entries = [...names, evil].map((name, i) => `  - {name: ${JSON.stringify(name)}, path: ${JSON.stringify(scene.path(`many-${i}.db`))}}\n`);
  writeFileSync(scene.path("many.yml"), `listen: 127.0.0.1:0\nhttp-listen: 127.0.0.1:0\ndbs:\n${entries.join("")}`);
  const many = await scene.walcast("many", "run", "--config", scene.path("many.yml"));
  const page = await scene.page(many.http);
  await headline(page, /^100 databases need a look$/);
  assert.equal(await page.locator("#list > li").count(), 50);
  await page.locator("#more").click();
  await poll("all rows", async () => (await page.locator("#list > li").count()) === 100);
  await page.locator("#filter").fill("tenant-07 waiting");
  await poll("ten rows", async () => (await page.locator("#list > li").count()) === 10);
  assert.equal(await text(page, "#count"), "10 of 100");
  await page.locator("#filter").fill("onerror");
  await poll("one row", async () => (await page.locator("#list > li").count()) === 1);
  assert.ok((await text(page, "#list .name")).startsWith(evil));
  await row(page, evil).getByRole("button").click();
  assert.equal(await page.locator("img").count(), 0);
  assert.equal(await page.evaluate(() => window.hit), undefined);
  await page.locator("#filter").fill("no such thing");
  await shows(page.locator("#empty"), /No database matches/);
  assert.deepEqual(page.trouble, []);
  await page.context().close();
  await scene.stop(many);
});
