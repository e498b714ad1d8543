// Copies the third-party modules that the UI ships from node_modules into ../vendor, verbatim, and records where each
// came from. `--check` writes nothing and fails when ../vendor differs from what the packages contain.
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const vendor = join(here, '..', 'vendor');

/** `append`: uPlot's minified build is a script, not a module; one line makes it importable. */
const FILES = [
  { package: 'preact', source: 'dist/preact.mjs', file: 'preact.mjs' },
  { package: 'preact', source: 'hooks/dist/hooks.mjs', file: 'preact-hooks.mjs' },
  { package: '@preact/signals-core', source: 'dist/signals-core.mjs', file: 'signals-core.mjs' },
  { package: '@preact/signals', source: 'dist/signals.mjs', file: 'signals.mjs' },
  { package: 'htm', source: 'dist/htm.module.js', file: 'htm.mjs' },
  { package: 'uplot', source: 'dist/uPlot.iife.min.js', file: 'uplot.mjs', append: '\nexport default uPlot;\n' },
  { package: 'uplot', source: 'dist/uPlot.min.css', file: 'uplot.css' },
];

const sha256 = (text) => createHash('sha256').update(text).digest('hex');

async function wanted() {
  const out = new Map();
  const manifest = [];
  const licences = new Map();
  for (const { package: name, source, file, append } of FILES) {
    const root = join(here, 'node_modules', name);
    const about = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
    const text = (await readFile(join(root, source), 'utf8')) + (append ?? '');
    out.set(file, text);
    manifest.push({
      file,
      package: name,
      version: about.version,
      source,
      ...(append ? { appended: append.trim() } : {}),
      licence: about.license,
      sha256: sha256(text),
    });
    licences.set(name, { version: about.version, id: about.license, text: await readFile(join(root, 'LICENSE'), 'utf8') });
  }
  out.set('vendor.json', `${JSON.stringify(manifest, null, 2)}\n`);
  const rule = '='.repeat(78);
  const texts = [...licences].map(([name, l]) => `${rule}\n${name} ${l.version} (${l.id})\n${rule}\n\n${l.text.trim()}\n`);
  out.set('LICENSES', texts.join('\n'));
  return out;
}

const check = process.argv.includes('--check');
const different = [];
for (const [file, text] of await wanted()) {
  const path = join(vendor, file);
  if (!check) {
    await writeFile(path, text);
    continue;
  }
  const present = await readFile(path, 'utf8').catch(() => undefined);
  if (present !== text) different.push(file);
}
if (different.length > 0) {
  console.error(`vendor differs from the packages: ${different.join(', ')}; run \`npm run vendor\` in collector/ui/tools`);
  process.exit(1);
}
console.log(check ? 'vendor is what the packages contain' : 'vendor written');
