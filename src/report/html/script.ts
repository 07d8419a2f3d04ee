/**
 * The page's script: search and unfolding. All content is readable without it. It does not add markup to the page.
 */
export const SCRIPT: string = `"use strict";
(() => {
  const box = document.getElementById("find"), count = document.getElementById("found");
  const items = [...document.querySelectorAll(".item")];
  let texts;
  function find() {
    const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
    texts ??= items.map((item) => item.textContent.toLowerCase());
    let shown = 0;
    items.forEach((item, index) => {
      const hit = words.every((word) => texts[index].includes(word));
      item.hidden = !hit;
      if (hit) shown++;
    });
    for (const list of document.querySelectorAll("details.list")) if (words.length) list.open = true;
    count.textContent = words.length ? shown + " of " + items.length : "";
  }
  let waiting = 0;
  box.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(find, 80); });
  box.addEventListener("keydown", (event) => { if (event.key === "Escape") { box.value = ""; find(); box.blur(); } });
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target === box || event.ctrlKey || event.metaKey) return;
    event.preventDefault(); box.focus();
  });
  function unfold() {
    const target = document.getElementById(location.hash.slice(1));
    if (target === null) return;
    if (target.closest("[hidden]")) { box.value = ""; find(); }
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    target.closest(".item")?.scrollIntoView({ block: "nearest" });
  }
  addEventListener("hashchange", unfold);
  box.hidden = false;
  if (location.hash) unfold();
})();
`;
