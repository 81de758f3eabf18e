/** From a model's output to what a person reads. */

/**
 * The most likely classes.
 * @param {ArrayLike<number>} values the output of one sample.
 * @param {object} manifest says the classes' names, and by `postprocessing` what the output is.
 * @returns {{label: string, probability: number}[]} the `count` best, best first.
 */
export function topClasses(values, manifest, count = 3) {
  const probabilities = asProbabilities(Array.from(values, Number), manifest.postprocessing?.kind);
  return probabilities
    .map((probability, index) => ({ label: manifest.classes?.[index] ?? String(index), probability }))
    .sort((a, b) => b.probability - a.probability)
    .slice(0, count);
}

function asProbabilities(values, kind) {
  if (kind === "softmax") return softmax(values);
  return kind === "sigmoid" ? values.map((value) => 1 / (1 + Math.exp(-value))) : values;
}

function softmax(values) {
  const highest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - highest));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}
