// Every page of a running collector, in both themes, on a desk and on a phone.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { axe, COLLECTOR, launch, overflow, picture, visit } from './browser.mjs';

const PAGES = [
  { name: 'overview', path: '/', title: /Overview · Picket$/ },
  { name: 'alerts', path: '/alerts', title: /Alerts · Picket$/ },
  { name: 'targets', path: '/targets', title: /Targets · Picket$/ },
  { name: 'runbook', path: '/runbooks/HighErrorRate', title: /Runbook · Picket$/, ready: 'main .prose h1' },
];
const VIEWS = [
  { name: 'desk', width: 1440, height: 900 },
  { name: 'phone', width: 390, height: 844 },
];

if (!COLLECTOR) throw new Error('COLLECTOR_URL is not set: name the collector whose pages are to be tested');

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

for (const { name, path, title, ready } of PAGES) {
  for (const view of VIEWS) {
    for (const scheme of ['dark', 'light']) {
      test(`${name} is whole on a ${view.name} in ${scheme}`, async () => {
        const { page, wrong, violations } = await visit(browser, path, { ...view, scheme, ready });
        await settled(page);
        await picture(page, `${name}-${view.name}-${scheme}`);
        assert.match(await page.title(), title);
        assert.deepEqual(await axe(page), []);
        assert.equal(await overflow(page), 0, 'the page scrolls sideways');
        assert.deepEqual(wrong, []);
        assert.deepEqual(violations, []);
        await page.close();
      });
    }
  }
}

test('the figures of the overview are those of its document', async () => {
  const { page } = await visit(browser, '/');
  const [response] = await Promise.all([
    page.waitForResponse((answer) => answer.url().endsWith('/api/ui/v1/overview')),
    page.reload(),
  ]);
  const document = await response.json();
  await page.locator('main .verdict').waitFor();
  assert.equal((await page.locator('.verdict h1').innerText()).replace(/^\S+\s+/, ''), document.verdict.sentence);
  const rows = page.locator('.services tbody tr');
  assert.equal(await rows.count(), document.services.length);
  for (const [index, service] of document.services.entries()) {
    const text = await rows.nth(index).innerText();
    assert.ok(text.includes(service.service), text);
    assert.ok(text.includes(service.reason), text);
    assert.ok(text.includes(`${service.tasks_up ?? '–'}/${service.tasks_expected ?? '–'}`), text);
  }
  await page.close();
});

test('the theme is switched, remembered, and the charts follow', async () => {
  const { page, wrong } = await visit(browser, '/', { scheme: 'dark' });
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await background();
  await page.getByRole('button', { name: 'Switch to light' }).click();
  const light = await background();
  assert.notEqual(light, dark);
  await page.reload();
  await page.locator('main .verdict').waitFor();
  assert.equal(await background(), light);
  await page.keyboard.press('d');
  assert.equal(await background(), dark);
  assert.deepEqual(wrong, []);
  await page.close();
});

test('the keyboard reaches pages, filter and help', async () => {
  const { page, wrong } = await visit(browser, '/');
  await page.keyboard.press('g');
  await page.keyboard.press('t');
  await page.waitForURL('**/targets');
  await page.locator('main .verdict').waitFor();
  const filter = page.getByRole('searchbox');
  if ((await filter.count()) > 0) {
    await page.keyboard.press('/');
    await page.keyboard.type('no-such-target');
    await page.getByText('No target matches').waitFor();
    assert.match(page.url(), /q=no-such-target/);
    await page.keyboard.press('Escape');
  }
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keyboard' }).waitFor();
  await page.keyboard.press('Escape');
  await page.goBack();
  assert.deepEqual(wrong, []);
  await page.close();
});

test('a page under a filter is a link', async () => {
  const { page } = await visit(browser, '/?q=no-such-service');
  const filter = page.getByRole('searchbox', { name: 'Filter services' });
  if ((await filter.count()) > 0) {
    assert.equal(await filter.inputValue(), 'no-such-service');
    await page.getByText('No service matches').waitFor();
  }
  await page.close();
});

test('a collector that does not answer is said, and what was known stays', async () => {
  const { page } = await visit(browser, '/');
  const sentence = await page.locator('.verdict h1').innerText();
  await page.route('**/api/**', (route) => route.abort('connectionrefused'));
  await page.getByText('The collector does not answer').waitFor({ timeout: 20_000 });
  assert.equal(await page.locator('.verdict h1').innerText(), sentence);
  await page.unroute('**/api/**');
  await page.getByText('The collector does not answer').waitFor({ state: 'detached', timeout: 20_000 });
  await page.close();
});

/** Charts are drawn or say why not. */
async function settled(page) {
  await page.waitForFunction(() => {
    const charts = [...document.querySelectorAll('.panel.chart')];
    return charts.every((chart) => chart.querySelector('canvas, .empty, .failure, table'));
  });
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
}
