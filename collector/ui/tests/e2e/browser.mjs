// A browser for the tests: Debian's Chromium, driven by playwright-core, and a notebook of everything that went wrong
// on a page. COLLECTOR_URL names the collector; SCREENSHOTS the folder for pictures (none are taken without it);
// CHROMIUM another browser.
import { mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

// What the tests need stands beside their package.json, not above this file.
const tools = createRequire(fileURLToPath(new URL('../../tools/package.json', import.meta.url)));
const { chromium } = tools('playwright-core');
const AXE = tools.resolve('axe-core/axe.min.js');

export const COLLECTOR = process.env.COLLECTOR_URL?.replace(/\/$/, '');
const PICTURES = process.env.SCREENSHOTS;

export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    // No sandbox: tests run as root in containers. The rest keeps the browser from talking to its maker.
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--font-render-hinting=none'],
  });

/** A page that writes down console errors, exceptions, failed and foreign requests. */
export async function visit(browser, path, { width = 1440, height = 900, scheme = 'dark', ready = 'main .verdict' } = {}) {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme: scheme, timezoneId: 'UTC', locale: 'en-GB', reducedMotion: 'reduce' });
  const wrong = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) wrong.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => wrong.push(`exception: ${error.message}`));
  page.on('requestfailed', (request) => {
    // A page that is left or refreshed gives up what it no longer needs.
    if (request.failure()?.errorText !== 'net::ERR_ABORTED') wrong.push(`failed: ${request.url()} ${request.failure()?.errorText}`);
  });
  page.on('response', (response) => {
    if (response.status() >= 400) wrong.push(`status ${response.status()}: ${response.url()}`);
  });
  page.on('request', (request) => {
    const { origin, protocol } = new URL(request.url());
    if (protocol.startsWith('http') && origin !== new URL(COLLECTOR).origin) wrong.push(`foreign: ${request.url()}`);
  });
  const violations = [];
  await page.exposeFunction('reportViolation', (text) => violations.push(text));
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => window.reportViolation(`${event.violatedDirective} ${event.blockedURI}`));
  });
  await page.goto(`${COLLECTOR}${path}`);
  await page.locator(ready).waitFor();
  return { page, wrong, violations };
}

/** Accessibility rules that the page breaks, as short lines. */
export async function axe(page) {
  // Evaluated by the driver, not by a script element: the page's own policy would rightly refuse that.
  await page.evaluate(await readFile(AXE, 'utf8'));
  const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
  return violations.map(({ id, help, nodes }) => `${id}: ${help} (${nodes.slice(0, 3).map(({ target }) => target).join('; ')})`);
}

export async function picture(page, name) {
  if (!PICTURES) return;
  await mkdir(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name}.png`), fullPage: true });
}

export const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
