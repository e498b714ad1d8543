// Runs before the first paint, so that a remembered theme never flashes. A classic script: modules are deferred.
(() => {
  let theme;
  try {
    theme = localStorage.getItem('picket.theme');
  } catch {
    // Storage is blocked: the system's preference holds.
  }
  if (theme === 'dark' || theme === 'light') document.documentElement.dataset.theme = theme;
})();
