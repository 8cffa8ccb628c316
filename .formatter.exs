[
  inputs: ["{mix,bundlex,.formatter}.exs", "{lib,tests,examples}/**/*.{ex,exs}"]
]
