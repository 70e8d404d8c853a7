// Mistakes that types do not show. What the page runs in is named here: everything else that is not declared is a mistake.

const BROWSER = ["AbortController", "AbortSignal", "CSS", "Element", "HTMLElement", "Node", "ResizeObserver", "TextDecoderStream", "addEventListener",
  "clearTimeout", "confirm", "console", "document", "fetch", "getComputedStyle", "getSelection", "history", "innerWidth", "localStorage", "location", "matchMedia", "performance",
  "requestAnimationFrame", "sessionStorage", "setInterval", "setTimeout", "window"];

export default [{
  files: ["**/*.js"],
  languageOptions: { ecmaVersion: 2025, sourceType: "module", globals: Object.fromEntries(BROWSER.map((name) => [name, "readonly"])) },
  linterOptions: { reportUnusedDisableDirectives: "error" },
  rules: Object.fromEntries(["array-callback-return", "consistent-return", "curly", "eqeqeq", "for-direction", "getter-return", "no-async-promise-executor",
    "no-case-declarations", "no-compare-neg-zero", "no-cond-assign", "no-const-assign", "no-constant-binary-expression", "no-constant-condition",
    "no-constructor-return", "no-control-regex", "no-debugger", "no-delete-var", "no-dupe-args", "no-dupe-class-members", "no-dupe-else-if",
    "no-dupe-keys", "no-duplicate-case", "no-duplicate-imports", "no-else-return", "no-empty", "no-empty-pattern", "no-eval", "no-ex-assign",
    "no-extend-native", "no-fallthrough", "no-global-assign", "no-implied-eval", "no-import-assign", "no-inner-declarations", "no-irregular-whitespace",
    "no-loss-of-precision", "no-new-func", "no-obj-calls", "no-promise-executor-return", "no-prototype-builtins", "no-redeclare", "no-regex-spaces",
    "no-self-assign", "no-self-compare", "no-setter-return", "no-shadow", "no-shadow-restricted-names", "no-sparse-arrays", "no-template-curly-in-string",
    "no-this-before-super", "no-undef", "no-unexpected-multiline", "no-unmodified-loop-condition", "no-unreachable", "no-unsafe-finally",
    "no-unsafe-negation", "no-unsafe-optional-chaining", "no-unused-labels", "no-unused-private-class-members", "no-unused-vars",
    "no-use-before-define", "no-useless-backreference", "no-useless-catch", "no-useless-escape", "no-useless-return", "no-var", "no-with",
    "object-shorthand", "prefer-const", "prefer-template", "require-yield", "use-isnan", "valid-typeof"].map((name) => [name, OPTIONS(name)])),
}];

/** @param {string} name */
function OPTIONS(name) {
  if (name === "curly") return ["error", "multi-line"];
  if (name === "no-use-before-define") return ["error", { functions: false, classes: false, variables: false }];
  if (name === "no-unused-vars") return ["error", { args: "after-used", caughtErrors: "none" }];
  if (name === "no-constant-condition") return ["error", { checkLoops: false }];
  if (name === "no-empty") return ["error", { allowEmptyCatch: false }];
  return "error";
}
