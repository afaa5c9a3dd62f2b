/* Distributions of what was measured, of the category that is chosen. */

const measured = document.getElementById("measurements");

function drawMeasurements(place) {
  const { distributions } = data.measurements.categories[place];
  for (const figure of measured.querySelectorAll(".chart")) {
    const { spread, ...series } = distributions[figure.dataset.property];
    const counted = figure.dataset.unit === "px";
    histogram(figure, { series, spread, integer: counted && figure.dataset.property === "area", none: "not measured" });
  }
}

if (measured) {
  const select = measured.querySelector("select");
  select.onchange = () => drawMeasurements(Number(select.value));
  select.value = "0"; // browsers remember what was chosen before
  drawMeasurements(0);
}
