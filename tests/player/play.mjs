// Plays a stream as a viewer's browser would and prints what happened as one JSON object.
//
//   node play.mjs --dir FOLDER --master master.m3u8 [--screenshot out.png] [--timeout 120]
//                 [--rate 2] [--verbose]
//
// Exit status: 0 when there is a result to print, good or bad; 1 when this harness itself
// failed (no browser, a crash); 2 for a wrong command line. It ends within the timeout
// (seconds, for everything) and a little grace, and takes the browser with it.

import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const GRACE_MS = 10_000; // for a last look at the page, and for closing the browser
const BROWSERS = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
// Nothing but the stream's own server is to be asked for anything.
const BROWSER_ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--autoplay-policy=no-user-gesture-required',
];

const here = path.dirname(fileURLToPath(import.meta.url));

function readArguments() {
  try {
    const { values } = parseArgs({
      options: {
        dir: { type: 'string' },
        master: { type: 'string' },
        screenshot: { type: 'string' },
        timeout: { type: 'string', default: '120' },
        rate: { type: 'string', default: '2' },
        verbose: { type: 'boolean', default: false },
      },
    });
    if (!values.dir || !values.master) throw new Error('--dir and --master are needed');
    values.timeout = Number(values.timeout);
    values.rate = Number(values.rate);
    if (!(values.timeout > 0)) throw new Error('--timeout is a number of seconds');
    if (!(values.rate >= 0.1 && values.rate <= 16)) throw new Error('--rate is a number from 0.1 to 16');
    if (!existsSync(values.dir)) throw new Error(`no folder ${values.dir}`);
    return values;
  } catch (error) {
    console.error(`play: ${error.message}`);
    console.error('usage: node play.mjs --dir FOLDER --master FILE [--screenshot PNG] [--timeout SECONDS] [--rate N] [--verbose]');
    process.exit(2);
  }
}

function isProgram(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/// CHROMIUM, or the first browser on PATH that starts (a stub of a package manager does not).
function findBrowser() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  for (const name of BROWSERS) {
    for (const folder of (process.env.PATH ?? '').split(path.delimiter)) {
      const file = path.join(folder, name);
      if (folder && isProgram(file) && spawnSync(file, ['--version'], { timeout: 20_000 }).status === 0) return file;
    }
  }
  throw new Error(`no browser: set CHROMIUM, or have one of ${BROWSERS.join(', ')} on PATH`);
}

const interrupted = new Promise((_, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.once(signal, () => reject(new Error(`interrupted by ${signal}`)));
  }
});
interrupted.catch(() => {});

function after(milliseconds, value) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds, value));
}

async function takeScreenshot(page, file) {
  if (!file) return;
  await mkdir(path.dirname(path.resolve(file)), { recursive: true });
  await page.screenshot({ path: file });
}

async function play(options, deadline) {
  const { chromium } = await import('playwright-core');
  const { serve } = await import('./serve.mjs');
  const left = () => Math.max(1, deadline - Date.now());

  const site = await serve(options.dir, {
    '/': path.join(here, 'page.html'),
    '/page.js': path.join(here, 'page.js'),
    '/hls.js': path.join(here, 'node_modules/hls.js/dist/hls.js'),
  });
  const browser = await chromium.launch({
    executablePath: findBrowser(),
    headless: true,
    args: BROWSER_ARGS,
    timeout: left(),
    // Ours close the browser properly, and its profile with it.
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
  });
  try {
    const page = await browser.newPage({ viewport: { width: 1280, height: 720 } });
    const pageErrors = [];
    page.on('pageerror', (error) => pageErrors.push({ details: 'pageError', message: error.message }));
    if (options.verbose) page.on('console', (message) => console.error(`page: ${message.text()}`));
    const crashed = new Promise((_, reject) => page.on('crash', () => reject(new Error('the page crashed'))));
    crashed.catch(() => {});
    const broken = Promise.race([crashed, interrupted]);
    broken.catch(() => {});

    let shot = false;
    await page.exposeFunction('halfway', async () => {
      await takeScreenshot(page, options.screenshot);
      shot = true;
    });
    await page.goto(`${site.origin}/`, { timeout: left() });
    const master = `${site.origin}/stream/${options.master.split('/').map(encodeURIComponent).join('/')}`;
    const run = page.evaluate((settings) => run(settings), { master, rate: options.rate, debug: options.verbose });
    run.catch(() => {});
    let result = await Promise.race([run, broken, after(left(), null)]);
    if (!result) {
      result = await Promise.race([page.evaluate(() => snapshot()), broken, after(GRACE_MS / 2, null)]);
      if (!result) throw new Error(`the page does not answer after ${options.timeout} s`);
      result.fatal.push({ details: 'timeout', message: `not at the end after ${options.timeout} s` });
    }
    if (!shot) await Promise.race([takeScreenshot(page, options.screenshot), after(GRACE_MS / 4)]);
    result.errors.push(...pageErrors);
    return { ...result, requests: site.requests, failedRequests: site.failed, browser: browser.version() };
  } finally {
    await Promise.race([browser.close(), after(GRACE_MS / 4)]);
    site.close();
  }
}

const options = readArguments();
const deadline = Date.now() + options.timeout * 1000;
// Whatever hangs: leaving the process makes playwright kill the browser.
setTimeout(() => {
  console.error(`play: gave up after ${options.timeout} s`);
  process.exit(1);
}, options.timeout * 1000 + GRACE_MS);

try {
  const result = await play(options, deadline);
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
} catch (error) {
  console.error(`play: ${error.message}`);
  process.exit(1);
}
