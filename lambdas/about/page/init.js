// Starts Swagger UI. A file of its own: the page's Content Security Policy allows no inline script.
window.SwaggerUIBundle({
  domNode: document.getElementById("swagger-ui"),
  url: document.getElementById("swagger-ui").dataset.url,
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  showExtensions: false,
  // Not sent to the validator of swagger.io.
  validatorUrl: null,
});
