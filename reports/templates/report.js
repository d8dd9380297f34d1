"use strict";
/* Small helpers, the theme, navigation, copy, filters, print. Texts of the record are only ever set as textContent. */
const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const report = { data: JSON.parse(one("#data").textContent), timeline: null };

/* ---- theme: system setting, or the button's choice, remembered where the browser allows it ---- */
const THEMES = ["auto", "light", "dark"];
const remembered = {
  get() { try { return localStorage.getItem("aftershock-theme"); } catch { return null; } },
  set(value) { try { localStorage.setItem("aftershock-theme", value); } catch { /* file:// may refuse */ } },
};
function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const button = one("#theme");
  button.dataset.theme = theme;
  button.setAttribute("aria-label", `Colour theme: ${theme}`);
  one("span", button).textContent = theme[0].toUpperCase() + theme.slice(1);
  report.timeline?.recolour();
}
one("#theme").addEventListener("click", event => {
  const next = THEMES[(THEMES.indexOf(event.currentTarget.dataset.theme) + 1) % THEMES.length];
  remembered.set(next);
  setTheme(next);
});
matchMedia("(prefers-color-scheme:dark)").addEventListener("change", () => report.timeline?.recolour());

/* ---- copy buttons ---- */
async function copy(button) {
  const source = one("#" + button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch { /* no clipboard on file:// in some browsers: select it, so that Ctrl+C works */
    const range = document.createRange();
    range.selectNodeContents(source);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}
for (const button of all("[data-copy]")) button.addEventListener("click", () => copy(button));

/* ---- counterexample: idle time cut, or full scale ---- */
for (const button of all("[data-scale]")) {
  button.addEventListener("click", () => {
    for (const figure of all(".ce")) {
      figure.classList.toggle("cut", button.dataset.scale === "cut");
      figure.classList.toggle("full", button.dataset.scale === "full");
    }
    for (const other of all("[data-scale]")) other.setAttribute("aria-pressed", String(other === button));
  });
}

/* ---- event filter ---- */
function filterEvents() {
  const wanted = one("#event-filter").value.trim().toLowerCase();
  const kinds = new Set(all(".chip[aria-pressed=true]").map(chip => chip.dataset.kind));
  const rows = all(".events tbody tr");
  let shown = 0;
  for (const row of rows) {
    row.hidden = !(kinds.has(row.dataset.kind) && row.textContent.toLowerCase().includes(wanted));
    shown += row.hidden ? 0 : 1;
  }
  one("#event-count").textContent = shown === rows.length ? `${shown} events`
    : shown ? `${shown} of ${rows.length} events` : "No event matches this filter";
}
if (one("#event-filter")) {
  one("#event-filter").addEventListener("input", filterEvents);
  for (const chip of all(".chip")) {
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
      filterEvents();
    });
  }
}

/* ---- links: a moment on the timeline (#t=a-b), a section, or the logs of an incident ---- */
function followHash() {
  const span = /^#t=([\d.]+)-([\d.]+)$/.exec(location.hash);
  if (span && report.timeline) {
    report.timeline.show(Number(span[1]), Number(span[2]));
    one("#timeline").scrollIntoView();
    return;
  }
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.tagName === "DETAILS") target.open = true;
}
document.addEventListener("click", event => {
  const link = event.target.closest?.('a[href^="#t="]');
  if (link && link.getAttribute("href") === location.hash) followHash(); // the same moment again: no hashchange comes
});
addEventListener("hashchange", followHash);

/* ---- which section is on screen ---- */
const navLinks = new Map(all(".top nav a").map(link => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver(entries => {
  for (const entry of entries) {
    if (!entry.isIntersecting || !navLinks.has(entry.target.id)) continue;
    navLinks.forEach(link => link.removeAttribute("aria-current"));
    navLinks.get(entry.target.id).setAttribute("aria-current", "true");
  }
}, { rootMargin: "-50px 0px -75% 0px" });
for (const section of all("main>section")) watcher.observe(section);

/* ---- print: light, the whole run, everything opened; afterwards as it was ---- */
let beforePrint = null;
addEventListener("beforeprint", () => {
  const closed = all("details:not([open])");
  beforePrint = { theme: one("#theme").dataset.theme, closed, view: report.timeline?.view() };
  for (const details of closed) details.open = true;
  setTheme("light");
  report.timeline?.printing(true);
});
addEventListener("afterprint", () => {
  if (!beforePrint) return;
  for (const details of beforePrint.closed) details.open = false;
  setTheme(beforePrint.theme);
  report.timeline?.printing(false);
  if (beforePrint.view) report.timeline.show(...beforePrint.view);
  beforePrint = null;
});
