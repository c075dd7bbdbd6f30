// The API reference: draws /openapi.json, and finds things in it.

import { codesSection, operationSection, verbTag } from "./operations.js";
import { anchor, el, prose } from "./markup.js";
import { schemaSection } from "./schemas.js";

const main = document.getElementById("main");
const contents = document.getElementById("contents");
const search = document.getElementById("search");
const found = document.getElementById("found");
const side = document.getElementById("side");
const menu = document.getElementById("menu");

const THEMES = ["auto", "light", "dark"];

function showTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = `Theme: ${theme}`;
}

function setUpTheme() {
  showTheme(THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto");
  document.getElementById("theme").addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
    localStorage.setItem("theme", next);
    showTheme(next);
  });
}

function operationsByTag(api) {
  const byTag = new Map(api.tags.map((tag) => [tag.name, []]));
  for (const [path, item] of Object.entries(api.paths)) {
    for (const [verb, operation] of Object.entries(item)) byTag.get(operation.tags[0]).push({ path, verb, operation });
  }
  return byTag;
}

const spaced = (name) => name.replace(/Service$/, "").replace(/([a-z])([A-Z])/g, "$1 $2");

function entry(href, words, ...children) {
  return el("li", { "data-words": words.join(" ").toLowerCase() }, el("a", { href: `#${href}` }, children));
}

function group(title, entries) {
  return el("div", { class: "group" }, el("h2", {}, title), el("ul", {}, entries));
}

function drawContents(api, byTag) {
  const groups = [...byTag].filter(([, all]) => all.length).map(([name, all]) => group(spaced(name), all.map(
    ({ path, verb, operation }) => entry(operation.operationId,
      [operation.operationId, path, verb, operation.summary || "", name], verbTag(verb), " ", operation.summary))));
  const codes = [...new Set(api["x-error-codes"].map((each) => each.code))].sort();
  groups.push(group("Error codes", codes.map((code) => entry(code, [code, code.replaceAll("_", " "), "error"], el("code", {}, code)))));
  const names = Object.keys(api.components.schemas).sort();
  groups.push(group("Schemas", names.map((name) => entry(`schema-${name}`, [name, "schema"], el("code", {}, name)))));
  contents.replaceChildren(...groups);
}

function drawMain(api, byTag) {
  const codes = new Set(api["x-error-codes"].map((each) => each.code));
  const sections = [...byTag].filter(([, all]) => all.length).map(([name, all]) => el("section", { id: `tag-${name}` },
    el("h2", {}, spaced(name), " ", anchor(`tag-${name}`)),
    prose(api.tags.find((tag) => tag.name === name).description, codes),
    all.map(({ path, verb, operation }) => operationSection(api, path, verb, operation, codes))));
  const schemas = el("section", { id: "schemas" }, el("h2", {}, "Schemas ", anchor("schemas")),
    Object.keys(api.components.schemas).sort().map((name) => schemaSection(api, name, codes)));
  main.replaceChildren(el("h1", {}, `${api.info.title} API`), ...prose(api.info.description, codes), ...sections,
    codesSection(api), schemas);
  document.getElementById("version").textContent = `version ${api.info.version}`;
}

/** Show only what has all the words. */
function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const item of contents.querySelectorAll("li")) {
    item.hidden = !words.every((word) => item.dataset.words.includes(word));
    count += item.hidden ? 0 : 1;
  }
  for (const one of contents.querySelectorAll(".group")) one.hidden = !one.querySelector("li:not([hidden])");
  found.textContent = words.length ? `${count} found` : "";
}

function move(step) {
  const links = [...contents.querySelectorAll("li:not([hidden]) a")];
  const place = links.indexOf(document.activeElement);
  const next = place + step;
  if (next < 0) search.focus();
  else links[Math.min(next, links.length - 1)]?.focus();
}

function onKey(event) {
  const isTyping = event.target === search;
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    openMenu(true);
    search.focus();
  } else if (event.key === "Escape" && (isTyping || side.contains(event.target))) {
    search.value = "";
    filter();
    openMenu(false);
    main.focus();
  } else if (["ArrowDown", "ArrowUp"].includes(event.key) && (isTyping || contents.contains(event.target))) {
    event.preventDefault();
    move(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Enter" && isTyping) {
    contents.querySelector("li:not([hidden]) a")?.click();
  }
}

function openMenu(isOpen) {
  side.classList.toggle("open", isOpen);
  menu.setAttribute("aria-expanded", String(isOpen));
}

/** The place was not there yet when the browser looked for it; one that is closed is opened. */
function goToHash() {
  const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!place) return;
  if (place.tagName === "DETAILS") place.open = true;
  place.scrollIntoView();
  document.querySelector(".here")?.classList.remove("here");
  place.classList.add("here");
  for (const link of contents.querySelectorAll("[aria-current]")) link.removeAttribute("aria-current");
  const current = contents.querySelector(`a[href="#${CSS.escape(place.id)}"]`);
  current?.setAttribute("aria-current", "location");
  current?.scrollIntoView({ block: "nearest" });
}

async function start() {
  setUpTheme();
  search.addEventListener("input", filter);
  document.addEventListener("keydown", onKey);
  menu.addEventListener("click", () => openMenu(!side.classList.contains("open")));
  contents.addEventListener("click", (event) => { if (event.target.closest("a")) openMenu(false); });
  window.addEventListener("hashchange", goToHash);
  try {
    const answer = await fetch("/openapi.json");
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const api = await answer.json();
    const byTag = operationsByTag(api);
    drawMain(api, byTag);
    drawContents(api, byTag);
    goToHash();
  } catch (error) {
    main.replaceChildren(el("p", { role: "alert" }, `The reference cannot be shown (${error.message}). Reload to try again.`));
  }
}

start();
