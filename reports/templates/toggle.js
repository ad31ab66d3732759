// The button that switches to the other theme.
(function () {
  "use strict";

  const root = document.documentElement;
  const button = document.getElementById("theme");
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);

  function nameIt() {
    button.textContent = isDark() ? "Light theme" : "Dark theme";
  }

  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("pybench-theme", root.dataset.theme);
    } catch (error) {
      // Not remembered, still switched.
    }
    nameIt();
    root.dispatchEvent(new Event("themechange"));
  });
  systemDark.addEventListener("change", nameIt);
  nameIt();
})();
