"""Where people ask: each channel turns an event into a Question and renders the Answer."""
