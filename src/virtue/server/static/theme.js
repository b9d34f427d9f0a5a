// Light, dark, or as the system is.

const NAMES = { auto: "as the system is", light: "light", dark: "dark" };
const STORED = "virtue.theme";

function apply(theme, button) {
  document.documentElement.dataset.theme = theme;
  button.setAttribute("aria-label", `Colours: ${NAMES[theme]}`);
  button.title = `Colours: ${NAMES[theme]} (t)`;
  button.querySelector("use").setAttribute("href", `/static/icons.svg#${theme}`);
}

export function useTheme(button) {
  const names = Object.keys(NAMES);
  let theme = localStorage.getItem(STORED);
  if (!names.includes(theme)) theme = "auto";
  apply(theme, button);
  button.addEventListener("click", () => {
    theme = names[(names.indexOf(theme) + 1) % names.length];
    localStorage.setItem(STORED, theme);
    apply(theme, button);
  });
}
