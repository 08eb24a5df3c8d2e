"""Where documents come from: releases, checkouts, issue files, GitHub."""
