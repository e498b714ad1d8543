// The little Markdown that runbooks are written in, as elements: headings, paragraphs, lists, code, emphasis, links.
// Text stays text: nothing in a runbook becomes markup that is not listed here.
import { h } from 'preact';

/** @param {string} text */
export function markdown(text) {
  const lines = text.replaceAll('\r', '').split('\n');
  const out = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    const heading = /^(#{1,4})\s+(.*)$/.exec(line);
    if (line.startsWith('```')) {
      const end = lines.findIndex((candidate, index) => index > at && candidate.startsWith('```'));
      const stop = end < 0 ? lines.length : end;
      out.push(h('pre', { tabindex: 0 }, h('code', null, lines.slice(at + 1, stop).join('\n'))));
      at = stop + 1;
    } else if (heading) {
      out.push(h(`h${heading[1].length}`, null, inline(heading[2])));
      at += 1;
    } else if (item(line)) {
      const [list, next] = listFrom(lines, at);
      out.push(list);
      at = next;
    } else if (line.trim() === '') {
      at += 1;
    } else {
      const paragraph = [];
      while (at < lines.length && lines[at].trim() !== '' && !item(lines[at]) && !/^(#|```)/.test(lines[at])) paragraph.push(lines[at++]);
      out.push(h('p', null, inline(paragraph.join(' '))));
    }
  }
  return out;
}

const item = (line) => /^(?:([-*])|(\d+)\.)\s+(.*)$/.exec(line);

/** One list; a line that is indented goes on with the item before it. */
function listFrom(lines, from) {
  const ordered = item(lines[from])[2] !== undefined;
  const items = [];
  let at = from;
  for (; at < lines.length; at += 1) {
    const found = item(lines[at]);
    if (found && (found[2] !== undefined) === ordered) items.push(found[3]);
    else if (/^\s+\S/.test(lines[at]) && items.length > 0) items[items.length - 1] += ` ${lines[at].trim()}`;
    else break;
  }
  return [h(ordered ? 'ol' : 'ul', null, items.map((text) => h('li', null, inline(text)))), at];
}

/** Code first: what stands between backticks is not looked at any further. */
function inline(text) {
  const parts = text.split(/(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)\s]+\))/);
  return parts.filter(Boolean).map((part) => {
    if (part.startsWith('`') && part.length > 2) return h('code', null, part.slice(1, -1));
    if (part.startsWith('**') && part.endsWith('**')) return h('strong', null, part.slice(2, -2));
    const link = /^\[([^\]]+)\]\(([^)\s]+)\)$/.exec(part);
    if (link && /^(https?:\/\/|\.{0,2}\/|[\w-]+(\.md)?$)/.test(link[2])) return h('a', { href: link[2] }, link[1]);
    return part;
  });
}
