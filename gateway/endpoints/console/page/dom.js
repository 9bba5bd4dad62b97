// Elements, made of names, attributes and texts: nothing here is ever read as HTML.

let last = 0;

/** Return an id that no other element has. */
export function unique() {
  last += 1;
  return `e${last}`;
}

/** Make an element. A child is a node or a text; null and false are left out. on* are listeners. */
export function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function s(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== false && child !== undefined));
  return element;
}

/** A button that copies a text, and says so. */
export function copying(label, text) {
  const button = h("button", { type: "button" }, label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Copying is not allowed";
    }
    setTimeout(() => { button.textContent = label; }, 1500);
  });
  return button;
}

/** A box that scrolls, which the keyboard can reach. */
export function scrolling(label, kind, ...children) {
  return h("div", { class: kind, tabindex: 0, role: "region", "aria-label": label }, ...children);
}

/** A block of code that can be scrolled by keyboard. */
export function code(text, label, kind = "") {
  return h("pre", { class: kind, tabindex: 0, role: "region", "aria-label": label }, h("code", {}, text));
}

/** Return what a view shows; an error says why not. */
export async function read(view) {
  const response = await fetch(`data/${view}`, { headers: authorization(), cache: "no-store" });
  if (!response.ok) {
    const error = new Error(`The gateway responded with ${response.status}: ${(await response.text()).trim()}`);
    error.needsKey = response.status === 401;
    throw error;
  }
  return response.json();
}

/** The key of this tab, which is kept nowhere else. */
export const key = {
  get: () => sessionStorage.getItem("key") || "",
  set: (value) => (value ? sessionStorage.setItem("key", value) : sessionStorage.removeItem("key")),
};

/** The header that shows the key, if there is one. */
export function authorization() {
  return key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
}
