/* Before the first paint: the theme that was chosen, else the system's. */
(() => {
  "use strict";
  let choice = null;
  try { choice = localStorage.getItem("lavva-theme"); } catch { /* no storage: the system's */ }
  if (choice === "light" || choice === "dark") document.documentElement.dataset.theme = choice;
})();
