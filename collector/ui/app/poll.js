// Keeps one document fresh: loads at once, then every interval while the tab is visible. What was there stays on
// screen when a refresh fails.
import { computed, signal } from '@preact/signals';

import { now, reachable } from './state.js';

/** Data older than this many intervals is shown as stale. */
const STALE_AFTER = 2.5;

/**
 * @template T
 * @param {() => Promise<T>} load
 * @param {number} intervalMs
 */
export function poll(load, intervalMs) {
  const data = signal(/** @type {T | undefined} */ (undefined));
  const error = signal(/** @type {Error | undefined} */ (undefined));
  const updatedAt = signal(0);
  const stale = computed(() => updatedAt.value > 0 && now.value - updatedAt.value > intervalMs * STALE_AFTER);
  let timer;
  let running = false;
  let stopped = false;

  async function refresh() {
    clearTimeout(timer);
    if (running || stopped) return;
    running = true;
    try {
      const loaded = await load();
      if (!stopped) {
        data.value = loaded;
        error.value = undefined;
        updatedAt.value = Date.now();
        reachable.value = { ok: true };
      }
    } catch (failure) {
      if (!stopped) {
        error.value = failure;
        reachable.value = failure.unreachable ? { ok: false, retryAt: Date.now() + intervalMs } : { ok: true };
      }
    } finally {
      running = false;
      schedule();
    }
  }

  function schedule() {
    clearTimeout(timer);
    if (!stopped && !document.hidden) timer = setTimeout(refresh, intervalMs);
  }

  const onVisibility = () => (document.hidden ? clearTimeout(timer) : refresh());
  document.addEventListener('visibilitychange', onVisibility);
  refresh();

  return {
    data,
    error,
    updatedAt,
    stale,
    refresh,
    stop() {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', onVisibility);
    },
  };
}
