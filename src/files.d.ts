/** Imports of files by path. */
declare module "*.zst" {
  const path: string;
  export default path;
}

/** Files that are imported as text. */
declare module "uplot/dist/uPlot.iife.min.js" {
  const text: string;
  export default text;
}
declare module "uplot/dist/uPlot.min.css" {
  const text: string;
  export default text;
}
declare module "*/LICENSE" {
  const text: string;
  export default text;
}
