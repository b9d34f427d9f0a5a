// Single keys; the help lists them, and can turn them off.

const STORED = "virtue.keys";

const BUTTONS = {
  "u": "#undo", "c": "#clear", "o": "#open", "g": "#home", "s": "#share", "k": "#code", "t": "#theme", "?": "#help",
  "1": "#mode-find", "2": "#mode-name", "p": "[data-tool=point][aria-pressed]", "x": "[data-tool=exclude][aria-pressed]",
  "b": "[data-tool=box][aria-pressed]", "m": "[data-tool=paint][aria-pressed]", "e": "[data-tool=erase][aria-pressed]",
};

export function useKeys({ words, brush, switchBox }) {
  switchBox.checked = localStorage.getItem(STORED) !== "off";
  switchBox.addEventListener("change", () => localStorage.setItem(STORED, switchBox.checked ? "on" : "off"));
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.target.matches("input:not([type=range]), textarea")) return;
    if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") press("#undo", event);
    if (event.ctrlKey || event.metaKey || event.altKey || !switchBox.checked) return;
    if (BUTTONS[event.key]) press(BUTTONS[event.key], event);
    else if (event.key === "/") focusOn(words, event);
    else if (event.key === "[" || event.key === "]") resize(brush, event.key === "]" ? 2 : -2);
  });
}

function press(selector, event) {
  const button = document.querySelector(selector);
  if (!button || button.disabled) return;
  event.preventDefault();
  button.click();
}

function focusOn(input, event) {
  event.preventDefault();
  input.focus();
  input.select();
}

function resize(brush, by) {
  brush.value = Number(brush.value) + by;
  brush.dispatchEvent(new Event("input"));
}
