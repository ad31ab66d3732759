// What can be scrolled is a stop of the keyboard; what fits its place is none.
(function () {
  "use strict";

  const places = new Map(
    [...document.querySelectorAll('.scroll, pre[tabindex="0"]')].map((place) => [place.firstElementChild, place]),
  );
  const scrolls = (place) => place.scrollWidth > place.clientWidth || place.scrollHeight > place.clientHeight;

  function judge(entries) {
    const changed = new Set(entries.map(({ target }) => places.get(target) || target));
    const judged = [...changed].map((place) => [place, scrolls(place)]);
    for (const [place, isStop] of judged) {
      // The place that somebody stands on stays a stop.
      if (isStop || place === document.activeElement) place.tabIndex = 0;
      else place.removeAttribute("tabindex");
    }
  }

  const observer = new ResizeObserver(judge);
  for (const [content, place] of places) {
    observer.observe(place);
    observer.observe(content);
  }
})();
