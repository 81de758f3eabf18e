/** What an app in Node or a browser needs to use an edgekit bundle, but for the runtime itself. */
export { openBundle } from "./bundle.mjs";
export { BundleError } from "./manifest.mjs";
export { prepareImage } from "./image.mjs";
export { topClasses } from "./answers.mjs";
export { checkGolden } from "./golden.mjs";
export { runSession, sessionOptions } from "./session.mjs";
export { refuseSeveral } from "./several.mjs";
export { openZip } from "./zip.mjs";
