// Building pages without ever parsing text as HTML.

/** An element: attributes that are functions become listeners, those that are false are left out. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== false && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/** Paragraphs and lists of a description; `code` spans, and error codes as links where they are known. */
export function prose(text, codes = new Set()) {
  const blocks = [];
  for (const paragraph of (text || "").split(/\n\n+/)) {
    const lines = paragraph.split("\n");
    if (lines.every((line) => line.startsWith("- "))) {
      blocks.push(el("ul", {}, lines.map((line) => el("li", {}, inline(line.slice(2), codes)))));
    } else if (paragraph.trim()) {
      blocks.push(el("p", {}, inline(paragraph, codes)));
    }
  }
  return blocks;
}

export function inline(text, codes = new Set()) {
  return text.split(/(`[^`]+`|\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b)/).map((part) => {
    const word = part.replaceAll("`", "");
    if (codes.has(word)) return el("a", { href: `#${word}`, class: "code" }, el("code", {}, word));
    return part.startsWith("`") && part.length > 2 ? el("code", {}, word) : part;
  });
}

/** Code with a button that copies it. */
export function codeBlock(text, label) {
  const button = el("button", { class: "copy", type: "button", "aria-label": `Copy: ${label}`, click: copy }, "Copy");
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select it by hand";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }
  return el("div", { class: "block" }, button, el("pre", { tabindex: "0", "aria-label": label }, el("code", {}, text)));
}

export const anchor = (id) => el("a", { href: `#${id}`, class: "anchor", "aria-label": "Link to this place" }, "#");
