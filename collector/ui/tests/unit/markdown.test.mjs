import assert from 'node:assert/strict';
import { register } from 'node:module';
import { test } from 'node:test';

// The page's import map, for Node: only `preact` is needed here.
const preact = new URL('../../vendor/preact.mjs', import.meta.url).href;
register(`data:text/javascript,${encodeURIComponent(`export const resolve = (name, context, next) => name === 'preact' ? { url: ${JSON.stringify(preact)}, shortCircuit: true } : next(name, context);`)}`);
const { markdown } = await import('../../app/markdown.js');

/** An element as `tag(child child)`. */
function shape(node) {
  if (Array.isArray(node)) return node.map(shape).join(' ');
  if (typeof node === 'string') return node;
  const children = node.props.children ?? [];
  return `${node.type}(${[children].flat().map(shape).join('')})`;
}

test('headings, paragraphs, lists and code become elements', () => {
  const text = '# Title\n\n**Means**: two\nlines, `a * b`.\n\n1. first\n2. second\n   goes on\n\n- one\n\n```\nx < 1\n```\n';
  assert.equal(
    shape(markdown(text)),
    'h1(Title) p(strong(Means): two lines, code(a * b).) ol(li(first)li(second goes on)) ul(li(one)) pre(code(x < 1))',
  );
});

test('markup and addresses that run code stay text', () => {
  assert.equal(shape(markdown('<b>x</b> [go](javascript:alert(1)) [doc](https://a.test/x)')), 'p(<b>x</b> [go](javascript:alert(1)) a(doc))');
});

test('a fence that is never closed ends with the text', () => {
  assert.equal(shape(markdown('```\na\nb')), 'pre(code(a\nb))');
});
