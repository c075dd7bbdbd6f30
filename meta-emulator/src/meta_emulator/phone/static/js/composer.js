// Writing: text, an attached file, a quoted message.

import { byId, h, icon, toast } from "./dom.js";
import { summaryOf } from "./format.js";

const BYTES_MAX = 100 * 1024 * 1024;
const IMAGES = ["image/jpeg", "image/png"];

let file = null;
let quoted = null;

/** `onSend(message)` gets a message as in Meta's `messages[]`. */
export function startComposer(onSend) {
  const form = byId("composer");
  const text = byId("text");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const message = await compose(text.value.trim());
    if (message === null) return;
    if (await onSend(message)) {
      text.value = "";
      attach(null);
      quote(null);
      grow();
    }
    text.focus();
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
    if (event.key === "Escape") quote(null);
  });
  text.addEventListener("input", grow);
  text.addEventListener("paste", (event) => {
    const pasted = [...(event.clipboardData?.files ?? [])][0];
    if (pasted) {
      event.preventDefault();
      attach(pasted);
    }
  });
  byId("file").addEventListener("change", (event) => {
    attach(event.target.files[0] ?? null);
    event.target.value = "";
    text.focus();
  });
  const thread = byId("thread");
  thread.addEventListener("dragover", (event) => event.preventDefault());
  thread.addEventListener("drop", (event) => {
    event.preventDefault();
    attach(event.dataTransfer.files[0] ?? null);
  });
}

export function enable(isOn) {
  byId("composer").classList.toggle("off", !isOn);
  for (const control of byId("composer").elements) control.disabled = !isOn;
}

/** Quote a message in the next one; null takes it back. */
export function quote(message, businessName = "") {
  quoted = message;
  const bar = byId("quote");
  bar.hidden = message === null;
  if (message === null) return;
  const author = message.direction === "inbound" ? "You" : businessName;
  bar.replaceChildren(h("span", {}, h("b", {}, `${author}: `), summaryOf(message)), removal("Do not quote", () => quote(null)));
  byId("text").focus();
}

function attach(chosen) {
  if (chosen && chosen.size > BYTES_MAX) {
    toast("Files may have at most 100 MB.");
    return;
  }
  file = chosen;
  const bar = byId("attachment");
  bar.hidden = chosen === null;
  if (chosen === null) {
    bar.replaceChildren();
    return;
  }
  const preview = chosen.type.startsWith("image/") ? h("img", { src: URL.createObjectURL(chosen), alt: "" }) : icon("file");
  bar.replaceChildren(preview, h("span", {}, chosen.name), removal("Remove the file", () => attach(null)));
}

const removal = (label, act) => h("button", { type: "button", "aria-label": label, onclick: act }, icon("close"));

async function compose(body) {
  const context = quoted ? { context: { id: quoted.wamid } } : {};
  if (file === null) return body ? { type: "text", text: { body }, ...context } : null;
  const type = typeOf(file.type);
  const content = { data: await read(file), mime_type: file.type || "application/octet-stream" };
  if (body && type !== "audio") content.caption = body;
  if (type === "document") content.filename = file.name;
  return { type, [type]: content, ...context };
}

function typeOf(mime) {
  if (IMAGES.includes(mime)) return "image";
  if (mime.startsWith("video/")) return "video";
  if (mime.startsWith("audio/")) return "audio";
  return "document";
}

function read(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

function grow() {
  const text = byId("text");
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
}
