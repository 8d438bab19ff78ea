/* What scrolls can be reached and scrolled with the keyboard; landmarks and dialogs have names. */
"use strict";
function makeAccessible() {
  for (const place of document.querySelectorAll(".md-typeset__scrollwrap, pre > code")) {
    place.tabIndex = place.scrollWidth > place.clientWidth ? 0 : -1;
  }
  document.querySelectorAll(".md-code__nav").forEach((place, number) => {
    place.setAttribute("aria-label", `Code block ${number + 1}`);
  });
  for (const dialog of document.querySelectorAll("[role=dialog]:not([aria-label])")) {
    dialog.setAttribute("aria-label", "Search");
  }
  document.body.dataset.accessible = "yes";
}
let planned = 0;
function plan() {
  cancelAnimationFrame(planned);
  planned = requestAnimationFrame(makeAccessible);
}
document.addEventListener("DOMContentLoaded", () => {
  new MutationObserver(plan).observe(document.body, {childList: true, subtree: true});
  addEventListener("resize", plan);
  plan();
});
