// Adapts the page to Cockpit: rights, visibility, light or dark theme.

// The page must be reloaded when administrative access is turned on or off: `permission` does that.
cockpit.permission({ admin: true });

// The page is hidden while Cockpit shows another page. Only the surrounding page observes the frame; `cockpit.hidden` cannot be used, because
// it reads `document.hidden` itself.
let shown = true;
const tabIsHidden = Object.getOwnPropertyDescriptor(Document.prototype, "hidden").get;
Object.defineProperty(document, "hidden", { get: () => !shown || tabIsHidden.call(document) });
if (frameElement) {
  new parent.IntersectionObserver((changes) => {
    shown = changes.at(-1).isIntersecting;
    document.dispatchEvent(new Event("visibilitychange"));
  }).observe(frameElement);
}

// Follow Cockpit's theme.
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
function followTheme() {
  const chosen = localStorage.getItem("shell:style") ?? "auto";
  const theme = chosen === "dark" || (chosen === "auto" && prefersDark.matches) ? "dark" : "light";
  document.documentElement.dataset.theme = theme;
  for (const version of ["v5", "v6"]) document.documentElement.classList.toggle(`pf-${version}-theme-dark`, theme === "dark");
}
followTheme();
prefersDark.addEventListener("change", followTheme);
addEventListener("storage", (event) => { if (event.key === "shell:style") followTheme(); });
