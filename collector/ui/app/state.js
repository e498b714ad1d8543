// What all pages share: the clock that ages are counted by, the theme, whether the collector answers, how many alerts
// are firing.
import { effect, signal } from '@preact/signals';

const THEME_KEY = 'picket.theme';

/** Ticks once a second, so that ages count up on the page. */
export const now = signal(Date.now());
setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 1000);

/** @type {import('@preact/signals').Signal<{ok: boolean, retryAt?: number}>} */
export const reachable = signal({ ok: true });

const TOKEN_KEY = 'picket.token';

/** The bearer token that the reader gave, for as long as the tab is open; empty where none is needed. */
export const token = signal(remembered());

function remembered() {
  try {
    return sessionStorage.getItem(TOKEN_KEY) ?? '';
  } catch {
    return '';
  }
}

export function setToken(value) {
  try {
    sessionStorage.setItem(TOKEN_KEY, value);
  } catch {
    // Storage is blocked: the token lasts until the page is left.
  }
  token.value = value;
}

/** Undefined until some page has heard. */
export const firing = signal(/** @type {number | undefined} */ (undefined));

const systemDark = matchMedia('(prefers-color-scheme: dark)');
const current = () => document.documentElement.dataset.theme ?? (systemDark.matches ? 'dark' : 'light');

/** `dark` or `light`, as shown. */
export const theme = signal(current());
systemDark.addEventListener('change', () => {
  theme.value = current();
});

export function toggleTheme() {
  const next = theme.value === 'dark' ? 'light' : 'dark';
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem(THEME_KEY, next);
  } catch {
    // Storage is blocked: the choice lasts until the page is left.
  }
  theme.value = next;
}

/** Shows the firing count where it is seen from another tab. */
export function keepTitle(pageTitle) {
  return effect(() => {
    const amount = firing.value ?? 0;
    document.title = `${amount > 0 ? `(${amount}) ` : ''}${pageTitle} · Picket`;
    const icon = /** @type {HTMLLinkElement} */ (document.querySelector('link[rel=icon]'));
    const wanted = icon.href.replace(/icon(-firing)?\.svg$/, amount > 0 ? 'icon-firing.svg' : 'icon.svg');
    if (icon.href !== wanted) icon.href = wanted;
  });
}
