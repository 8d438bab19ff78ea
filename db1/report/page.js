"use strict";
for (const form of document.querySelectorAll("form.tools")) {
  form.addEventListener("submit", event => event.preventDefault());
}

const FIRST_ROWS = 100;

/* Tables: sorted by their heads, filtered by the fields above. */
for (const form of document.querySelectorAll("form[data-table]")) {
  const table = document.getElementById(form.dataset.table);
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const rows = [...body.rows].map(row => ({
    row,
    text: row.cells[0].textContent.toLowerCase(),
    keys: [...row.cells].map(cell => {
      const key = cell.dataset.key;
      return key === undefined ? null : key.trim() !== "" && isFinite(key) ? Number(key) : key;
    }),
  }));
  const {search, group, level, order, count} = form.elements;
  const more = table.nextElementSibling;
  let limit = FIRST_ROWS;
  const above = (a, b) => typeof a === "number" && typeof b === "number"
    ? a - b : String(a).localeCompare(String(b), "en", {numeric: true});
  function sort(column, descending) {
    const sign = descending ? -1 : 1;
    rows.sort((a, b) => {
      const x = a.keys[column], y = b.keys[column];
      if (x === null || y === null) return (x === null) - (y === null);  /* nothing comes last */
      return sign * above(x, y);
    });
    heads.forEach((head, i) => {
      if (i === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    order.value = column;
    body.append(...rows.map(entry => entry.row));
    filter();
  }
  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const {row, text} of rows) {
      const keep = words.every(word => text.includes(word))
        && (!group.value || row.dataset.group === group.value)
        && (!level.value || row.dataset.level === level.value);
      shown += keep;
      row.hidden = !keep || shown > limit;
    }
    count.value = `${shown} of ${rows.length}`;
    more.hidden = shown <= limit;
    more.textContent = `Show all ${shown}`;
  }
  const show_all = () => { limit = Infinity; filter(); };
  more.addEventListener("click", show_all);
  addEventListener("beforeprint", show_all);
  const starts_high = column => typeof rows.find(r => r.keys[column] !== null)?.keys[column] === "number";
  heads.forEach((head, i) => head.firstElementChild.addEventListener("click", () => {
    const now = head.getAttribute("aria-sort");
    sort(i, now ? now === "ascending" : starts_high(i));
  }));
  order.addEventListener("change", () => sort(Number(order.value), starts_high(Number(order.value))));
  for (const kind of ["input", "change"]) form.addEventListener(kind, filter);
  filter();
}

/* Films: a still until somebody wants to see it move; only then is the film decoded. */
const stills = new WeakMap();
function play(button) {
  const image = button.firstElementChild;
  if (stills.has(button)) return;
  const text = document.getElementById(button.dataset.film).textContent;
  const bytes = Uint8Array.from(atob(text), sign => sign.charCodeAt(0));
  stills.set(button, image.src);
  image.src = URL.createObjectURL(new Blob([bytes], {type: "image/webp"}));
  button.setAttribute("aria-pressed", "true");
}
function stop(button) {
  const image = button.firstElementChild, still = stills.get(button);
  if (!still) return;
  URL.revokeObjectURL(image.src);
  image.src = still;
  stills.delete(button);
  button.setAttribute("aria-pressed", "false");
}
const films = [...document.querySelectorAll(".film")];
for (const film of films) {
  film.addEventListener("click", () => {
    film.parentElement.classList.toggle("large", !stills.has(film));
    stills.has(film) ? stop(film) : play(film);
  });
}
for (const form of document.querySelectorAll(".films-tools")) {
  const cards = [...form.nextElementSibling.children];
  const {search, play: all, count} = form.elements;
  let seen = null;
  all.addEventListener("change", () => {
    if (seen) seen.disconnect();
    seen = null;
    if (!all.checked) return films.forEach(stop);
    seen = new IntersectionObserver(entries => entries.forEach(entry =>
      entry.isIntersecting ? play(entry.target) : stop(entry.target)));
    films.forEach(film => seen.observe(film));
  });
  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const card of cards) {
      const name = card.dataset.task.toLowerCase();
      card.hidden = !words.every(word => name.includes(word));
      shown += !card.hidden;
    }
    count.value = `${shown} of ${cards.length}`;
  }
  for (const kind of ["input", "change"]) search.addEventListener(kind, filter);
  filter();
}
