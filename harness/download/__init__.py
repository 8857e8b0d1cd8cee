"""Downloads over HTTP and from the Hugging Face hub, resumed and verified; model weights."""
