"use strict";

// Swagger UI, with operations in the order in which people need them.
const place = document.getElementById("page");
const order = JSON.parse(place.dataset.order);
const rank = (operation) => order.indexOf(operation.getIn(["operation", "operationId"]));
SwaggerUIBundle({
  url: place.dataset.description,
  dom_id: "#page",
  deepLinking: true,
  validatorUrl: null,
  tryItOutEnabled: true,
  operationsSorter: (one, other) => rank(one) - rank(other),
  defaultModelsExpandDepth: 0,
});
