// Each page is a path of one segment, so that relative addresses work below any prefix. What a page shows (filter,
// zoom) stands in the query string: every view is a link.
import { signal } from '@preact/signals';

export const PAGES = [
  { path: '', name: 'overview', title: 'Overview', key: 'o', load: () => import('./pages/overview.js') },
  { path: 'alerts', name: 'alerts', title: 'Alerts', key: 'a', load: () => import('./pages/alerts.js') },
  { path: 'targets', name: 'targets', title: 'Targets', key: 't', load: () => import('./pages/targets.js') },
];

/** Reached by links only. */
const LINKED = [{ path: 'runbook', name: 'runbook', title: 'Runbook', load: () => import('./pages/runbook.js') }];

const read = () => {
  const segment = location.pathname.split('/').at(-1) ?? '';
  return { page: [...PAGES, ...LINKED].find((page) => page.path === segment) ?? PAGES[0], params: new URLSearchParams(location.search) };
};

export const route = signal(read());
addEventListener('popstate', () => {
  route.value = read();
});

/** Goes to a page of this list, without parameters. */
export function open(page) {
  history.pushState(null, '', `./${page.path}`);
  route.value = read();
  document.getElementById('content')?.focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** Changes parameters of the present page; an empty value removes one. Typing does not fill the history. */
export function setParams(changes, { replace = false } = {}) {
  const params = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined || value === '') params.delete(name);
    else params.set(name, String(value));
  }
  const query = params.toString();
  const address = `${location.pathname}${query ? `?${query}` : ''}`;
  if (replace) history.replaceState(null, '', address);
  else history.pushState(null, '', address);
  route.value = read();
}

/** A plain click on a link to a page of ours is answered here; everything else is the browser's. */
export function onClick(event, page) {
  if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  open(page);
}
