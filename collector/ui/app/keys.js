// Keyboard: `g` and a letter opens a page, `/` filters, `j` `k` walk rows, `d` changes the theme, `?` explains.
import { PAGES, open, setParams } from './router.js';
import { toggleTheme } from './state.js';

const CHORD_MS = 1200;

export const KEYS = [
  ...PAGES.map((page) => [`g ${page.key}`, `open ${page.title}`]),
  ['/', 'filter'],
  ['j  k', 'next, previous row'],
  ['d', 'dark or light'],
  ['Esc', 'leave the filter, undo the zoom'],
  ['?', 'this list'],
];

const isTyping = (target) => target.closest?.('input, textarea, select, [contenteditable]') !== null;

function step(direction) {
  const rows = [...document.querySelectorAll('main [data-row]')];
  if (rows.length === 0) return;
  const at = rows.indexOf(document.activeElement?.closest('[data-row]'));
  const next = at < 0 ? (direction > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + direction));
  rows[next].focus();
}

/** @param {{help: () => void}} actions */
export function listen({ help }) {
  let chordUntil = 0;
  const plain = {
    '/': () => document.querySelector('main input[type=search]')?.focus(),
    j: () => step(1),
    k: () => step(-1),
    d: toggleTheme,
    '?': help,
    Escape: () => setParams({ from: '', to: '' }),
  };
  addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (isTyping(event.target)) {
      if (event.key === 'Escape') event.target.blur();
      return;
    }
    if (document.querySelector('dialog[open]')) return;
    const page = event.timeStamp < chordUntil ? PAGES.find((candidate) => candidate.key === event.key) : undefined;
    chordUntil = event.key === 'g' ? event.timeStamp + CHORD_MS : 0;
    const action = page ? () => open(page) : plain[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
