"""SwiftDiffusion: text-to-image with add-on modules, served by Triton."""
