[
  inputs: ["{mix,bundlex,.formatter}.exs", "{lib,tests,examples}/**/*.{ex,exs}"],
  locals_without_parens: [attack: 3, attack: 4]
]
