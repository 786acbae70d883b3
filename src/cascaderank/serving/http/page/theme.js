// Sets the colours before the first paint: a classic script, since modules run after it.
"use strict";

(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("cascaderank-theme");
  } catch {
    // storage is switched off: the colours of the system count
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
