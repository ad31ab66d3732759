// Runs before the first paint, so that a chosen theme does not flash.
(function () {
  "use strict";
  const root = document.documentElement;
  root.classList.add("scripted");
  try {
    const chosen = localStorage.getItem("pybench-theme");
    if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  } catch (error) {
    // A page opened from a disk may be denied storage; the theme is the system's then.
  }
})();
